# The loop and the readers around the real engine, over the store in RAM: by hand, turn by turn, and with its threads.
add_library(loop_kit STATIC loop_kit.c)
target_include_directories(loop_kit PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(loop_kit PUBLIC broker engine store_mem store schemas base dep::threads PRIVATE dep::cmocka)

foreach(module turn due threads logread tail readers held replay compact reclaim backup workers)
    sluice_unit_test(loop-${module} SOURCES loop_${module}.c LINKS loop_kit)
endforeach()
