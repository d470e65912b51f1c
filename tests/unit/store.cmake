foreach(module puts keys rows)
    sluice_unit_test(store-${module} SOURCES store_${module}.c LINKS store)
endforeach()
sluice_unit_test(store-mem SOURCES store_mem.c LINKS store_mem)

# The same questions to each store. ThreadSanitizer takes RocksDB, which is built without it, for full of races.
sluice_unit_test(store-contract SOURCES store_contract.c LINKS store_mem store_rocks dep::threads TIMEOUT 120)
if(NOT SLUICE_SANITIZE MATCHES thread)
    sluice_unit_test(store-rocks SOURCES store_rocks.c LINKS store_rocks dep::rocksdb TIMEOUT 180)
endif()

# The engine links the contract and has no threads, no clocks and no database; nor has what it links.
sluice_test(unit store-symbols COMMAND sh -c
    "symbols=$(${CMAKE_NM} -u $<TARGET_FILE:store>) && echo \"$symbols\" | grep -q buf_append && ! echo \"$symbols\" | grep -E 'pthread_|clock_|getrandom|rocksdb_'")
