# One static library per layer, with an include path of its own.
#
# A layer is included by its name: "base/buf.h", "store/store.h". That name is a symlink in the
# build tree, alone in its directory, and the directory is on the include path only of those who
# link the layer. So an include that points upward does not compile, and an arrow that is not in a
# CMakeLists.txt is not in the code.
#
#     sluice_layer(NAME engine DIR broker/engine SOURCES engine.c lease.c LINKS store)
#
# DIR is relative to the top and defaults to the caller's directory, SOURCES are relative to it.
# Other layers in LINKS are passed on to those who link this one, as they stand below both; outside
# libraries (dep::) are not. A layer made with NO_INCLUDE has no name of its own to include: it
# implements the headers of one that it links.
function(sluice_layer)
    cmake_parse_arguments(PARSE_ARGV 0 ARG "NO_INCLUDE" "NAME;DIR" "SOURCES;LINKS")
    if(NOT ARG_NAME OR NOT ARG_SOURCES OR ARG_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "sluice_layer(NAME n [DIR d] SOURCES f... [LINKS t...] [NO_INCLUDE]): ${ARGN}")
    endif()
    set(dir ${CMAKE_CURRENT_SOURCE_DIR})
    if(ARG_DIR)
        set(dir ${PROJECT_SOURCE_DIR}/${ARG_DIR})
    endif()

    set(sources)
    foreach(source IN LISTS ARG_SOURCES)
        cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY ${dir})
        list(APPEND sources ${source})
    endforeach()
    add_library(${ARG_NAME} STATIC ${sources})

    foreach(link IN LISTS ARG_LINKS)
        if(link MATCHES "^dep::")
            target_link_libraries(${ARG_NAME} PRIVATE ${link})
        else()
            target_link_libraries(${ARG_NAME} PUBLIC ${link})
        endif()
    endforeach()

    if(NOT ARG_NO_INCLUDE)
        set(prefix ${CMAKE_BINARY_DIR}/include/${ARG_NAME})
        file(MAKE_DIRECTORY ${prefix})
        file(CREATE_LINK ${dir} ${prefix}/${ARG_NAME} SYMBOLIC)
        target_include_directories(${ARG_NAME} PUBLIC ${prefix})
    endif()
endfunction()
