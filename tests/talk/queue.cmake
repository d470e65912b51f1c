# Queue groups with the real broker, as users of libsluice see them.
sluice_test(talk queue SOURCES queue.c LINKS talk sluice base TIMEOUT 300)
add_dependencies(talk-queue sluice-broker)
