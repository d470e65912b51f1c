# The worker daemon with the real broker.
sluice_test(talk workerd SOURCES workerd.c ${PROJECT_SOURCE_DIR}/tests/lib/workerd_proc.c LINKS talk sluice base
    ENV TEST_HANDLERS=${CMAKE_BINARY_DIR}/tests/handlers)
target_include_directories(talk-workerd PRIVATE ${PROJECT_SOURCE_DIR}/tests/lib ${PROJECT_SOURCE_DIR}/tests/unit)
add_dependencies(talk-workerd sluice-broker sluice-workerd test-handler-obedient test-handler-batches)
sluice_test(talk workerd-scale SOURCES workerd_scale.c ${PROJECT_SOURCE_DIR}/tests/lib/workerd_proc.c LINKS talk sluice base
    ENV TEST_HANDLERS=${CMAKE_BINARY_DIR}/tests/handlers)
target_include_directories(talk-workerd-scale PRIVATE ${PROJECT_SOURCE_DIR}/tests/lib ${PROJECT_SOURCE_DIR}/tests/unit)
add_dependencies(talk-workerd-scale sluice-broker sluice-workerd test-handler-obedient)
# Longer: SLUICE_SOAK_S=1800 ctest -R talk-soak.
sluice_test(talk soak SOURCES soak.c ${PROJECT_SOURCE_DIR}/tests/lib/workerd_proc.c LINKS talk sluice base TIMEOUT 14400
    ENV TEST_HANDLERS=${CMAKE_BINARY_DIR}/tests/handlers)
target_include_directories(talk-soak PRIVATE ${PROJECT_SOURCE_DIR}/tests/lib)
add_dependencies(talk-soak sluice-broker sluice-workerd test-handler-obedient test-handler-batches)
