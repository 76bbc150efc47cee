//! manumit
