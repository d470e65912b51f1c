# Tests. Each is one ctest, named KIND-NAME and labelled KIND, so that `ctest -L unit` runs a kind and
# `ctest -R talk-lease` one test.
#
#     sluice_unit_test(base-heap SOURCES base_heap.c LINKS base)
#     sluice_test(talk lease SOURCES lease.c talk.c LINKS sluice [TIMEOUT 120] [RUN_SERIAL] [ARGS ...] [ENV A=b ...])
#     sluice_test(crash ledger COMMAND ${Python3_EXECUTABLE} ledger.py TIMEOUT 600 RUN_SERIAL)
#
# With SOURCES a program of that name is built into tests/ of the build tree, against cmocka; with
# COMMAND that is run. TIMEOUT is in seconds. Every test finds the built programs in $SLUICE_BIN.

# A size that is refused is refused, as malloc would; the first error ends the run.
set(SANITIZER_ENV
    "ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=1"
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=halt_on_error=1:allocator_may_return_null=1")

# For what hangs: the slowest of a kind takes a tenth of it here, and several times as long where the processors are slow or busy.
set(SLUICE_TIMEOUT_unit 400)
set(SLUICE_TIMEOUT_talk 600)
set(SLUICE_TIMEOUT_sim 900)
set(SLUICE_TIMEOUT_crash 900)
set(SLUICE_TIMEOUT_fuzz 300)
set(SLUICE_TIMEOUT_planted 600)
set(SLUICE_TIMEOUT_bench 300)

function(sluice_test kind name)
    cmake_parse_arguments(PARSE_ARGV 2 ARG "RUN_SERIAL" "TIMEOUT" "SOURCES;LINKS;ARGS;ENV;COMMAND")
    set(test ${kind}-${name})
    if(ARG_UNPARSED_ARGUMENTS OR (NOT ARG_SOURCES AND NOT ARG_COMMAND) OR (ARG_SOURCES AND ARG_COMMAND))
        message(FATAL_ERROR "${test}: either SOURCES or COMMAND is needed, and nothing unknown: ${ARGN}")
    endif()
    if(NOT DEFINED SLUICE_TIMEOUT_${kind})
        message(FATAL_ERROR "${test}: there is no kind '${kind}'")
    endif()
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT ${SLUICE_TIMEOUT_${kind}})
    endif()

    if(ARG_SOURCES)
        add_executable(${test} ${ARG_SOURCES})
        target_link_libraries(${test} PRIVATE ${ARG_LINKS} dep::cmocka)
        set_target_properties(${test} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
        set(ARG_COMMAND ${test})
    endif()

    add_test(NAME ${test} COMMAND ${ARG_COMMAND} ${ARG_ARGS})
    set_tests_properties(${test} PROPERTIES
        LABELS ${kind}
        TIMEOUT ${ARG_TIMEOUT}
        ENVIRONMENT "SLUICE_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};${SANITIZER_ENV};${ARG_ENV}")
    if(ARG_RUN_SERIAL)
        set_tests_properties(${test} PROPERTIES RUN_SERIAL ON)
    endif()
endfunction()

function(sluice_unit_test name)
    sluice_test(unit ${name} ${ARGN})
endfunction()
