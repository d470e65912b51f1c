sluice_test(talk embed SOURCES embed.c LINKS sluice_embed)
