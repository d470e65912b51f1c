# Handlers in other languages, and programs as handlers, with the real daemon and broker.
sluice_test(talk languages SOURCES languages.c ${PROJECT_SOURCE_DIR}/tests/lib/workerd_proc.c LINKS talk sluice base
    ENV EXAMPLES=${CMAKE_BINARY_DIR}/examples/handlers)
target_include_directories(talk-languages PRIVATE ${PROJECT_SOURCE_DIR}/tests/lib)
add_dependencies(talk-languages sluice-broker sluice-workerd example-handler-receipt example-handler-verify)
