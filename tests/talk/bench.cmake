# The bench with a broker that it starts: that it measures something, whole and verified, not how much.
sluice_test(talk bench SOURCES bench.c LINKS dep::jansson)
add_dependencies(talk-bench sluice-bench)
