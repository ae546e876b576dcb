"""`paintbox up`: the processes of an installation on one machine, with an embedded Valkey. Nothing of the API."""
