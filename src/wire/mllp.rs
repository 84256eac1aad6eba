//! MLLP.
