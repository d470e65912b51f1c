sluice_unit_test(broker-compose SOURCES broker_compose.c LINKS compose store_mem dep::nng)
sluice_unit_test(broker-config SOURCES broker_config.c LINKS compose)
target_compile_definitions(unit-broker-config PRIVATE DOCS_DIR="${PROJECT_SOURCE_DIR}/docs")
