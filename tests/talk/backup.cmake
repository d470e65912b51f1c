# Backups of a broker that serves, and brokers that begin with them.
sluice_test(talk backup SOURCES backup.c LINKS talk sluice base dep::threads)
add_dependencies(talk-backup sluice-broker)
