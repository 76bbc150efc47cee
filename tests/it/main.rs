mod smoke {
    #[test]
    fn links() {}
}
