//! manumit-sim
