# What we stand on, each as one target dep::NAME, so that no other file knows how a library is
# found. All of it comes from Debian packages; newer nng 1.x and RocksDB build too.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

function(_dep_missing what)
    message(FATAL_ERROR "${what} was not found. scripts/deps.sh installs what the build needs.")
endfunction()

# dep::NAME from a header (WHAT/SUCH.h; its directory is left in NAME_INCLUDE_DIR) and, if LIBRARY
# is given, a library.
function(_dep_plain name header)
    find_path(${name}_INCLUDE_DIR ${header})
    mark_as_advanced(${name}_INCLUDE_DIR)
    add_library(dep_${name} INTERFACE IMPORTED GLOBAL)
    if(NOT ${name}_INCLUDE_DIR)
        _dep_missing("${header}")
    endif()
    target_include_directories(dep_${name} INTERFACE ${${name}_INCLUDE_DIR})
    if(ARGC GREATER 2)
        find_library(${name}_LIBRARY ${ARGV2})
        mark_as_advanced(${name}_LIBRARY)
        if(NOT ${name}_LIBRARY)
            _dep_missing("The library ${ARGV2}")
        endif()
        target_link_libraries(dep_${name} INTERFACE ${${name}_LIBRARY})
    endif()
    add_library(dep::${name} ALIAS dep_${name})
endfunction()

# dep::NAME from a pkg-config module, at least of VERSION if given.
function(_dep_pkgconfig name module)
    set(spec ${module})
    if(ARGC GREATER 2)
        set(spec "${module}>=${ARGV2}")
    endif()
    pkg_check_modules(DEP_${name} QUIET IMPORTED_TARGET GLOBAL ${spec})
    if(NOT DEP_${name}_FOUND)
        _dep_missing("${spec}")
    endif()
    add_library(dep_${name} INTERFACE IMPORTED GLOBAL)
    target_link_libraries(dep_${name} INTERFACE PkgConfig::DEP_${name})
    add_library(dep::${name} ALIAS dep_${name})
endfunction()

_dep_pkgconfig(rocksdb rocksdb 7.8.3)
_dep_pkgconfig(xxhash libxxhash)
_dep_pkgconfig(lz4 liblz4)
_dep_pkgconfig(zstd libzstd)
_dep_pkgconfig(jansson jansson)
_dep_pkgconfig(yaml yaml-0.1)
_dep_pkgconfig(microhttpd libmicrohttpd)
_dep_pkgconfig(gd gdlib)
_dep_pkgconfig(jemalloc jemalloc)
_dep_pkgconfig(seccomp libseccomp 2.5)

# Not every system has a pkg-config file for nng; the one of libcyaml asks for libyaml's development
# files, which only its static library needs.
_dep_plain(cyaml cyaml/cyaml.h cyaml)
_dep_plain(nng nng/nng.h nng)
target_link_libraries(dep_nng INTERFACE Threads::Threads)
foreach(part MAJOR MINOR PATCH)
    file(STRINGS ${nng_INCLUDE_DIR}/nng/nng.h line REGEX "^#define NNG_${part}_VERSION [0-9]+")
    string(REGEX MATCH "[0-9]+$" NNG_${part} "${line}")
endforeach()
if("${NNG_MAJOR}.${NNG_MINOR}.${NNG_PATCH}" VERSION_LESS 1.5.2)
    _dep_missing("nng >= 1.5.2 (there is ${NNG_MAJOR}.${NNG_MINOR}.${NNG_PATCH})")
endif()

# Headers only. FlatBuffers adds its compiler, ${FLATC}.
_dep_plain(uthash uthash.h)
_dep_plain(flatbuffers flatbuffers/flatbuffers.h)
find_program(FLATC flatc)
mark_as_advanced(FLATC)
if(NOT FLATC)
    _dep_missing("flatc")
endif()

add_library(dep_threads INTERFACE IMPORTED GLOBAL)
target_link_libraries(dep_threads INTERFACE Threads::Threads)
add_library(dep::threads ALIAS dep_threads)

# cmocka and rustc are for the tests only, so a machine that just builds and runs does without.
option(SLUICE_TESTS "Build the tests (needs cmocka and rustc: scripts/deps.sh --test)" ON)
if(SLUICE_TESTS)
    pkg_check_modules(DEP_cmocka QUIET IMPORTED_TARGET GLOBAL cmocka)
    if(NOT DEP_cmocka_FOUND)
        message(FATAL_ERROR "cmocka was not found. scripts/deps.sh --test installs what the tests need; "
            "-DSLUICE_TESTS=OFF builds without them.")
    endif()
    add_library(dep_cmocka INTERFACE IMPORTED GLOBAL)
    target_link_libraries(dep_cmocka INTERFACE PkgConfig::DEP_cmocka)
    add_library(dep::cmocka ALIAS dep_cmocka)
    find_program(RUSTC rustc) # for the example of a handler in Rust
    mark_as_advanced(RUSTC)
    if(NOT RUSTC)
        message(FATAL_ERROR "rustc was not found. scripts/deps.sh --test installs what the tests need; "
            "-DSLUICE_TESTS=OFF builds without them.")
    endif()
endif()
