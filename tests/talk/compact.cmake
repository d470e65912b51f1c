# Compacted topics with the real broker and its store.
sluice_test(talk compact SOURCES compact.c LINKS talk sluice base)
add_dependencies(talk-compact sluice-broker)
