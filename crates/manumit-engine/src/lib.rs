//! Ordered rows in, hits and alert changes out.
//!
//! The engine is a value, not a service: it asks no clock, touches no disk or network and logs nothing.
