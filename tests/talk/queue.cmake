# Queue groups with the real broker, as users of libsluice see them.
sluice_test(talk queue SOURCES queue.c LINKS talk sluice base)
add_dependencies(talk-queue sluice-broker)
