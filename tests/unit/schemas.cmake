foreach(module arena errors frame headers stored)
    sluice_unit_test(schemas-${module} SOURCES schemas_${module}.c LINKS schemas)
endforeach()

add_library(schemas_samples STATIC golden.c schemas_messages.c schemas_records.c schemas_samples.c)
target_include_directories(schemas_samples PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(schemas_samples PUBLIC GOLDEN_DIR="${CMAKE_CURRENT_SOURCE_DIR}/golden")
target_link_libraries(schemas_samples PUBLIC schemas)

foreach(module batch codec golden)
    sluice_unit_test(schemas-${module} SOURCES schemas_${module}.c LINKS schemas_samples)
endforeach()
# codec.cc is C++ and asks nothing of the C++ library: a program that uses all of it links as C.
if(NOT SLUICE_SANITIZE)
    set_target_properties(unit-schemas-codec PROPERTIES LINKER_LANGUAGE C)
endif()

sluice_unit_test(schemas-hostile SOURCES schemas_hostile.c LINKS schemas_samples)
