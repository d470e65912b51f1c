# The order system of sdk/examples/orders.
sluice_test(talk orders COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/orders.sh ${CMAKE_BINARY_DIR}/examples)
