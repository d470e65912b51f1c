# The wire: frames, bounds, rude clients, damage; and the broker as a process, with its HTTP side.
sluice_test(talk wire-frames SOURCES wire_frames.c LINKS talk)
sluice_test(talk wire-bounds SOURCES wire_bounds.c LINKS talk)
sluice_test(talk wire-nng SOURCES wire_nng.c LINKS talk sluice)
sluice_test(talk wire-rude SOURCES wire_rude.c LINKS talk)
sluice_test(talk wire-damage SOURCES wire_damage.c LINKS talk)
sluice_test(talk broker-process SOURCES broker_process.c LINKS talk)
sluice_test(talk broker-http SOURCES broker_http.c LINKS talk)
sluice_test(talk broker-publish SOURCES broker_publish.c LINKS talk)
