//! Process layout: outer process, pid 1, inner process (design decision 14).
