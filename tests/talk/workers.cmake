# Two worker daemons at one broker, looked at and told what to do by the command.
sluice_test(talk workers COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/workers.sh ${CMAKE_BINARY_DIR}/tests/handlers)
