# The engine over the store in RAM, without a loop. Each program is one file of the engine, or two that make no sense apart.
add_library(engine_kit STATIC engine_kit.c)
target_include_directories(engine_kit PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(engine_kit PUBLIC broker engine store_mem store schemas base PRIVATE dep::cmocka)

foreach(module done keylist lane session lease settle unit held queue topics log lag dedup quota alter growth purge idle sched retention compact stream)
    sluice_unit_test(engine-${module} SOURCES engine_${module}.c LINKS engine_kit)
endforeach()

foreach(module task replay explain damage met) # dead letters, what comes again, what is in the way, what does not read
    sluice_unit_test(engine-${module} SOURCES engine_${module}.c LINKS engine_kit)
endforeach()

foreach(module front run priority rate keylimit away) # the order of a key, and who goes first
    sluice_unit_test(engine-${module} SOURCES engine_${module}.c LINKS engine_kit)
endforeach()
sluice_unit_test(engine-assign SOURCES engine_assign.c LINKS engine)
sluice_unit_test(engine-cron SOURCES engine_cron.c LINKS engine)

# It has no thread, clock, socket, file or database: neither its sources nor its archive name one.
sluice_test(unit engine-purity COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D SOURCES=${PROJECT_SOURCE_DIR}/broker/engine
    -D ARCHIVE=$<TARGET_FILE:engine> -P ${CMAKE_CURRENT_SOURCE_DIR}/engine_purity.cmake)
# The store's contract keeps what it promises in the same way, but for the hash of its rows.
sluice_test(unit store-purity COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D ARCHIVE=$<TARGET_FILE:store>
    -P ${CMAKE_CURRENT_SOURCE_DIR}/engine_purity.cmake)
