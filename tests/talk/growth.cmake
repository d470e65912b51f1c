# Topics that get more partitions under load, as users of libsluice see it.
sluice_test(talk growth SOURCES growth.c LINKS talk sluice base)
add_dependencies(talk-growth sluice-broker)
