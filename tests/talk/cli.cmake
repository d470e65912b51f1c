# The command as its users run it.
sluice_test(talk cli COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/cli.sh)
