"""How the console writes and reads times (`settings.FORMAT_MODULE_PATH`)."""
