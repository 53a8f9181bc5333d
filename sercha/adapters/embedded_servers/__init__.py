"""What the servers that `sercha up` starts have in common: the data folder, an account, a log, a process."""

from sercha.adapters.embedded_servers.folder import DataFolder, data_folder

__all__ = ["DataFolder", "data_folder"]
