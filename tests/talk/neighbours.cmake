# Handlers that do harm beside a good one, with the real broker.
sluice_test(talk neighbours SOURCES neighbours.c ${PROJECT_SOURCE_DIR}/tests/lib/workerd_proc.c LINKS talk sluice base
    ENV TEST_HANDLERS=${CMAKE_BINARY_DIR}/tests/handlers)
target_include_directories(talk-neighbours PRIVATE ${PROJECT_SOURCE_DIR}/tests/lib)
add_dependencies(talk-neighbours sluice-broker sluice-workerd test-handler-rogue)
