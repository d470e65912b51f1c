# Fails when a program has a switch of a planted bug: the variable's name, a symbol, or the name of a bug.
#
#     cmake -D NM=nm -D PROGRAMS=broker;cli -P nothing.cmake

file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/planted.def lines REGEX "^X\\(")
string(REGEX MATCHALL "X\\([a-z_]+" bugs "${lines}")
list(TRANSFORM bugs REPLACE "X\\(" "")
list(LENGTH bugs count)
if(count LESS 25)
    message(FATAL_ERROR "planted.def has ${count} bugs")
endif()
list(JOIN bugs "|" any)
foreach(program IN LISTS PROGRAMS)
    file(STRINGS ${program} found REGEX "SLUICE_PLANTED|^(${any})$")
    execute_process(COMMAND ${NM} --format=posix ${program} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
    if(found OR symbols MATCHES "planted")
        message(SEND_ERROR "${program} has a planted bug: ${found}")
    endif()
endforeach()
message(STATUS "nothing of ${count} planted bugs in ${PROGRAMS}")
