# `sluice handler`, and the examples in other languages that it runs.
foreach(mode crash exit hang)
    add_library(test-handler-${mode} MODULE ${CMAKE_CURRENT_LIST_DIR}/handler_crashing.c)
    target_compile_definitions(test-handler-${mode} PRIVATE MODE="${mode}")
    target_include_directories(test-handler-${mode} PRIVATE ${PROJECT_SOURCE_DIR}/sdk/include)
    set_target_properties(test-handler-${mode} PROPERTIES
        PREFIX "" OUTPUT_NAME ${mode} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/handlers)
endforeach()
sluice_test(talk handler COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/handler.sh
    ENV TEST_HANDLERS=${CMAKE_BINARY_DIR}/tests/handlers EXAMPLES=${CMAKE_BINARY_DIR}/examples/handlers)
