# Stream groups with the real broker, as users of libsluice and of the command see them.
sluice_test(talk stream SOURCES stream.c LINKS talk sluice base)
target_compile_definitions(talk-stream PRIVATE SLUICE="$<TARGET_FILE:sluice-cli>")
add_dependencies(talk-stream sluice-broker sluice-cli)
