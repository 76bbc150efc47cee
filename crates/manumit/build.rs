//! The pack of rules and feeds is compiled in, and stands outside this package: a change there is a change here.

fn main() {
    for folder in ["../../rules", "../../sql", "../../docker"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
