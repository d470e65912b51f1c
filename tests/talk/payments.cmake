# The payment example of sdk/examples/payments.
sluice_test(talk payments SOURCES payments.c ${PROJECT_SOURCE_DIR}/tests/lib/workerd_proc.c LINKS talk sluice base
    ENV TEST_HANDLERS=${CMAKE_BINARY_DIR}/tests/handlers PAYMENT_HANDLERS=${CMAKE_BINARY_DIR}/examples)
target_include_directories(talk-payments PRIVATE ${PROJECT_SOURCE_DIR}/tests/lib ${PROJECT_SOURCE_DIR}/tests/unit)
add_dependencies(talk-payments sluice-broker sluice-workerd test-handler-obedient example-payments-charge)
