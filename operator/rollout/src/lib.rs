//! What to do next, given what is seen. Pure: no I/O, no clock, no async, no logging.
