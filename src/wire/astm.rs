//! LIS01-A2.
