# Handlers for the tests: one that does what its messages say, and some that cannot be loaded.
set(SLUICE_TEST_HANDLERS ${CMAKE_BINARY_DIR}/tests/handlers)
foreach(kind obedient newer worse batches threaded no-symbol other-abi no-entry)
    string(REPLACE "-" "_" name ${kind})
    string(TOUPPER ${name} macro)
    add_library(test-handler-${kind} MODULE ${CMAKE_CURRENT_SOURCE_DIR}/workerd_handler.c)
    target_compile_definitions(test-handler-${kind} PRIVATE HANDLER_${macro})
    target_include_directories(test-handler-${kind} PRIVATE ${PROJECT_SOURCE_DIR}/sdk/include)
    target_link_libraries(test-handler-${kind} PRIVATE dep::threads)
    set_target_properties(test-handler-${kind} PROPERTIES
        PREFIX "" OUTPUT_NAME ${kind} LIBRARY_OUTPUT_DIRECTORY ${SLUICE_TEST_HANDLERS})
endforeach()

add_library(test-handler-rogue MODULE ${CMAKE_CURRENT_SOURCE_DIR}/workerd_rogue.c)
target_include_directories(test-handler-rogue PRIVATE ${PROJECT_SOURCE_DIR}/sdk/include)
target_link_libraries(test-handler-rogue PRIVATE dep::threads)
set_target_properties(test-handler-rogue PROPERTIES
    PREFIX "" OUTPUT_NAME rogue LIBRARY_OUTPUT_DIRECTORY ${SLUICE_TEST_HANDLERS})

# These start the daemon's own file as a child, so it has to be there.
set(handlers TEST_HANDLERS=${SLUICE_TEST_HANDLERS})
sluice_unit_test(workerd-ahead SOURCES workerd_ahead.c LINKS workerd)
sluice_unit_test(workerd-breaker SOURCES workerd_breaker.c LINKS workerd)
sluice_unit_test(workerd-command SOURCES workerd_command.c LINKS workerd)
sluice_unit_test(workerd-effects SOURCES workerd_effects.c LINKS workerd)
sluice_unit_test(workerd-canary SOURCES workerd_canary.c LINKS workerd)
sluice_unit_test(workerd-reload SOURCES workerd_reload.c LINKS workerd)
sluice_unit_test(workerd-config SOURCES workerd_config.c LINKS workerd)
sluice_unit_test(workerd-watch SOURCES workerd_watch.c LINKS workerd talk)
sluice_unit_test(workerd-exec SOURCES workerd_exec.c LINKS workerd)
sluice_unit_test(workerd-heard SOURCES workerd_heard.c LINKS workerd)
sluice_unit_test(workerd-pipe SOURCES workerd_pipe.c LINKS workerd)
sluice_unit_test(workerd-photo SOURCES workerd_photo.c LINKS workerd photo
    ENV PHOTO_HANDLERS=${CMAKE_BINARY_DIR}/lib/handlers)
sluice_unit_test(workerd-child SOURCES workerd_child.c LINKS workerd ENV ${handlers})
sluice_unit_test(workerd-pool SOURCES workerd_pool.c LINKS workerd ENV ${handlers})
sluice_unit_test(workerd-scale SOURCES workerd_scale.c LINKS workerd m)
sluice_unit_test(workerd-run SOURCES workerd_run.c LINKS workerd ENV ${handlers})
sluice_unit_test(workerd-batch SOURCES workerd_batch.c LINKS workerd ENV ${handlers})
sluice_unit_test(workerd-daemon SOURCES workerd_daemon.c ${PROJECT_SOURCE_DIR}/tests/lib/workerd_proc.c LINKS workerd
    ENV ${handlers})
target_include_directories(unit-workerd-daemon PRIVATE ${PROJECT_SOURCE_DIR}/tests/lib)
sluice_unit_test(workerd-jail SOURCES workerd_jail.c LINKS workerd ENV ${handlers})
add_dependencies(unit-workerd-jail sluice-workerd test-handler-rogue)
foreach(test batch child pool run daemon)
    add_dependencies(unit-workerd-${test} sluice-workerd test-handler-obedient test-handler-newer test-handler-worse test-handler-batches test-handler-threaded test-handler-no-symbol
        test-handler-other-abi test-handler-no-entry)
endforeach()
add_dependencies(unit-workerd-photo handler-thumbnail handler-filter handler-moderate)
