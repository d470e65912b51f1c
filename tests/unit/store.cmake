foreach(module puts keys rows)
    sluice_unit_test(store-${module} SOURCES store_${module}.c LINKS store)
endforeach()
sluice_unit_test(store-sched-walk SOURCES store_sched_walk.c LINKS store_mem)
sluice_unit_test(store-mem SOURCES store_mem.c LINKS store_mem)

# The same questions to each store. ThreadSanitizer takes RocksDB, which is built without it, for full of races.
sluice_unit_test(store-contract SOURCES store_contract.c LINKS store_mem store_rocks dep::threads TIMEOUT 120)
if(NOT SLUICE_SANITIZE MATCHES thread)
    sluice_unit_test(store-rocks-crc SOURCES store_rocks_crc.c LINKS store_rocks dep::rocksdb)
    foreach(module open damage disk options space wal)
        sluice_unit_test(store-rocks-${module} SOURCES store_rocks_${module}.c store_disk.c LINKS store_rocks dep::rocksdb TIMEOUT 180)
    endforeach()
endif()
