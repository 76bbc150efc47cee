//! manumit-sql
