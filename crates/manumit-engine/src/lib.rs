//! manumit-engine
