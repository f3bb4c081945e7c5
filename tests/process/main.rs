//! Promises of the program as a process: its command line, its files, its signals, its neighbours and its end.

#[path = "../common/mod.rs"]
mod common;

mod backup;
mod bounds;
mod cli;
mod concurrency;
mod contract;
mod crash;
mod database_file;
mod deploy;
mod documents;
mod durability;
mod failover;
mod faults;
mod limits;
mod metrics;
mod power_loss;
mod replicas;
mod rolling;
mod startup;
mod upgrade;
