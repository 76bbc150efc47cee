//! Guides and rules that the tests read stand outside this package: a change there is a change here.

fn main() {
    for folder in ["../rules", "../sql"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
