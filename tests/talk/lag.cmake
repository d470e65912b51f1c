# The lag, published and heard.
sluice_test(talk lag-heard SOURCES lag_heard.c LINKS talk sluice base)
