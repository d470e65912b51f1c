add_library(sdk_fake STATIC sdk_fake.c)
target_include_directories(sdk_fake PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(sdk_fake PUBLIC schemas sluice dep::nng dep::threads PRIVATE dep::cmocka)

foreach(module admin carry prefetch publish receive reader session unit)
    sluice_unit_test(sdk-${module} SOURCES sdk_${module}.c LINKS sdk_fake)
endforeach()
sluice_unit_test(sdk-hear SOURCES sdk_hear.c LINKS sdk)
sluice_unit_test(sdk-socket SOURCES sdk_socket.c sdk_relay.c LINKS sdk_fake)

sluice_test(unit sdk-symbols COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D SHARED=$<TARGET_FILE:sluice>
    -D STATIC=${CMAKE_ARCHIVE_OUTPUT_DIRECTORY}/libsluice.a -D HEADER=${PROJECT_SOURCE_DIR}/sdk/include/sluice/sluice.h
    -P ${CMAKE_CURRENT_SOURCE_DIR}/sdk_symbols.cmake)
