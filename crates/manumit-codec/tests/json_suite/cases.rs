//! Documents by name, in the manner of the JSON parsing test suites: `y_` must be read, `n_` must not, `i_` is left open by
//! RFC 8259. Written for this project.

/// A document and its name.
pub type Case = (String, Vec<u8>);

/// All of them; names are unique.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| cases.push((name.to_string(), bytes.to_vec()));
    for (name, text) in VALUES {
        // As a member that is mapped, as one that is not, in a list, and alone.
        add(&format!("{name}_member"), format!("{{\"a\":{text}}}").as_bytes());
        add(&format!("{name}_unmapped"), format!("{{\"zz\":{text},\"a\":\"x\"}}").as_bytes());
        add(&format!("{name}_in_list"), format!("{{\"f\":[\"x\",{text}]}}").as_bytes());
        add(&format!("{name}_last_of_unmapped_list"), format!("{{\"zz\":[1,{text} ]}}").as_bytes());
        add(&format!("{name}_alone"), text.as_bytes());
    }
    for (name, text) in DOCUMENTS {
        add(name, text.as_bytes());
    }
    for byte in 0..0x20_u8 {
        let control = [&b"{\"a\":\"x"[..], &[byte], b"y\"}"].concat();
        add(&format!("n_text_control_{byte:02x}"), &control);
        add(&format!("n_unmapped_text_control_{byte:02x}"), &[&b"{\"zz\":\""[..], &[byte], b"\"}"].concat());
        let kind = if matches!(byte, 9 | 10 | 13) { 'y' } else { 'n' };
        add(&format!("{kind}_between_{byte:02x}"), &[&b"{\"a\":"[..], &[byte], b"1}"].concat());
        add(&format!("{kind}_before_{byte:02x}"), &[&[byte][..], b"{\"a\":1}"].concat());
        add(&format!("{kind}_after_{byte:02x}"), &[&b"{\"a\":1}"[..], &[byte]].concat());
    }
    for (name, bytes) in [
        ("bare_continuation", &[0x80_u8][..]),
        ("overlong_slash", &[0xc0, 0xaf]),
        ("overlong_nul", &[0xc0, 0x80]),
        ("surrogate", &[0xed, 0xa0, 0x80]),
        ("beyond_unicode", &[0xf4, 0x90, 0x80, 0x80]),
        ("cut_three", &[0xe2, 0x82]),
        ("cut_four", &[0xf0, 0x9f, 0x98]),
        ("ff", &[0xff]),
        ("fe", &[0xfe]),
        ("latin1", &[0xe9]),
    ] {
        add(&format!("n_utf8_{name}_text"), &[b"{\"a\":\"", bytes, b"\"}"].concat());
        add(&format!("n_utf8_{name}_unmapped"), &[b"{\"zz\":\"", bytes, b"\"}"].concat());
        add(&format!("n_utf8_{name}_name"), &[b"{\"", bytes, b"\":1}"].concat());
        add(&format!("n_utf8_{name}_outside"), &[b"{\"a\":1", bytes, b"}"].concat());
        add(&format!("n_utf8_{name}_after"), &[b"{\"a\":1}", bytes].concat());
    }
    add("n_bom_utf8", b"\xef\xbb\xbf{\"a\":1}");
    add("n_bom_utf16", b"\xff\xfe{\0\"\0a\0\"\0:\x001\0}\0");
    add("n_empty", b"");
    let digits = "9".repeat(10_000);
    add("i_number_10000_digits_text", format!("{{\"a\":{digits}}}").as_bytes());
    add("i_number_10000_digits_integer", format!("{{\"b\":{digits}}}").as_bytes());
    add("i_number_10000_digits_decimal", format!("{{\"c\":0.{digits}}}").as_bytes());
    add("i_number_10000_digits_unmapped", format!("{{\"zz\":-{digits}.{digits}e{digits}}}").as_bytes());
    for depth in [127, 128, 129, 5_000, 100_000] {
        let kind = if depth <= 120 { 'y' } else { 'i' };
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        add(&format!("{kind}_deep_lists_{depth}"), format!("{{\"zz\":{open}{close}}}").as_bytes());
        add(&format!("n_deep_lists_open_{depth}"), format!("{{\"zz\":{open}").as_bytes());
        let objects = "{\"d\":".repeat(depth);
        add(&format!("{kind}_deep_objects_{depth}"), format!("{objects}1{}", "}".repeat(depth)).as_bytes());
        add(&format!("n_deep_objects_open_{depth}"), objects.as_bytes());
    }
    cases
}

/// Values; a name says whether the value is one.
const VALUES: &[(&str, &str)] = &[
    ("y_zero", "0"),
    ("y_minus_zero", "-0"),
    ("y_integer", "123"),
    ("y_fraction", "-1.25"),
    ("y_exponent", "1e5"),
    ("y_exponent_capital_signed", "1E+05"),
    ("y_exponent_negative", "0.1e-7"),
    ("y_zero_exponent", "0e0"),
    ("i_exponent_huge", "1e999999"),
    ("y_exponent_tiny", "1e-999999"),
    ("y_long_fraction", "0.1234567890123456789012345678901234567890"),
    ("y_above_u64", "184467440737095516160"),
    ("y_true", "true"),
    ("y_false", "false"),
    ("y_null", "null"),
    ("y_empty_text", "\"\""),
    ("y_text", "\"abc\""),
    ("y_escapes", r#""\"\\\/\b\f\n\r\t""#),
    ("y_escaped_letter", r#""\u0041""#),
    ("y_escaped_nul", r#""\u0000""#),
    ("y_escaped_pair", r#""\ud83d\ude00""#),
    ("y_emoji", "\"😀 Ж\""),
    ("y_delete", "\"\u{7f}\""),
    ("y_line_separator", "\"\u{2028}\u{2029}\""),
    ("y_noncharacter", "\"\u{ffff}\u{10ffff}\""),
    ("y_bom_in_text", "\"\u{feff}\""),
    ("y_comma_in_text", "\"a,b:{[\""),
    ("y_empty_list", "[]"),
    ("y_empty_object", "{}"),
    ("y_spaced_list", "[ 1 , 2 ]"),
    ("y_nested", "[[{\"x\":[1,{}]}]]"),
    ("i_lone_high", r#""\ud800""#),
    ("i_lone_low", r#""\udc00""#),
    ("i_high_high", r#""\ud800\ud800""#),
    ("i_low_high", r#""\udc00\ud800""#),
    ("i_high_letter", r#""\ud800x""#),
    ("i_high_escape", r#""\ud800\n""#),
    ("n_plus", "+1"),
    ("n_plus_plus", "++1"),
    ("n_minus", "-"),
    ("n_minus_minus", "--1"),
    ("n_minus_space", "- 1"),
    ("n_minus_letter", "-x"),
    ("n_leading_zero", "01"),
    ("n_leading_zeros", "-00.5"),
    ("n_point_first", ".5"),
    ("n_point_last", "5."),
    ("n_point_exponent", "1.e1"),
    ("n_two_points", "1.2.3"),
    ("n_exponent_empty", "1e"),
    ("n_exponent_sign", "1e+"),
    ("n_exponent_twice", "1e1e1"),
    ("n_exponent_fraction", "1e1.5"),
    ("n_minus_inside", "1-2"),
    ("n_hex", "0x1f"),
    ("n_hex_letters", "ab"),
    ("n_infinity", "Infinity"),
    ("n_minus_infinity", "-Infinity"),
    ("n_nan", "NaN"),
    ("n_underscore", "1_000"),
    ("n_thousands", "1'000"),
    ("n_full_width", "\u{ff11}"),
    ("n_capital_true", "True"),
    ("n_capital_null", "NULL"),
    ("n_cut_true", "tru"),
    ("n_long_true", "truex"),
    ("n_nul_l", "nul"),
    ("n_undefined", "undefined"),
    ("n_single_quotes", "'a'"),
    ("n_no_quotes", "abc"),
    ("n_escape_x", r#""\x41""#),
    ("n_escape_a", r#""\a""#),
    ("n_escape_0", r#""\0""#),
    ("n_escape_quote", r#""\'""#),
    ("n_escape_u3", r#""\u004""#),
    ("n_escape_u_letters", r#""\u00zz""#),
    ("n_escape_u_capital", r#""\U0041""#),
    ("n_escape_u_plus", r#""\u+041""#),
    ("n_escape_emoji", "\"\\😀\""),
    ("n_list_commas", "[1,,2]"),
    ("n_list_comma_first", "[,1]"),
    ("n_list_comma_last", "[1,]"),
    ("n_list_comma_only", "[,]"),
    ("n_list_no_comma", "[1 2]"),
    ("n_list_no_comma_texts", "[\"a\"\"b\"]"),
    ("n_list_no_comma_lists", "[[] []]"),
    ("n_list_colon", "[\"a\":1]"),
    ("n_list_semicolon", "[1;2]"),
    ("n_list_wrong_end", "[1}"),
    ("n_object_wrong_end", "{\"x\":1]"),
    ("n_object_commas", "{\"x\":1,,\"y\":2}"),
    ("n_object_comma_first", "{,\"x\":1}"),
    ("n_object_comma_last", "{\"x\":1,}"),
    ("n_object_comma_only", "{,}"),
    ("n_object_no_comma", "{\"x\":1 \"y\":2}"),
    ("n_object_no_comma_tight", "{\"x\":\"a\"\"y\":2}"),
    ("n_object_no_colon", "{\"x\" 1}"),
    ("n_object_two_colons", "{\"x\"::1}"),
    ("n_object_comma_for_colon", "{\"x\",1}"),
    ("n_object_no_value", "{\"x\":}"),
    ("n_object_name_only", "{\"x\"}"),
    ("n_object_number_name", "{1:1}"),
    ("n_object_bare_name", "{x:1}"),
    ("n_object_single_quotes", "{'x':1}"),
    ("n_object_null_name", "{null:1}"),
    ("n_comment_block", "/**/1"),
    ("n_comment_behind", "1/**/"),
    ("n_comment_line", "1//x"),
    ("n_comment_hash", "1#x"),
    ("n_no_break_space", "\u{a0}1"),
    ("n_next_line", "\u{85}1"),
    ("n_zero_width", "\u{200b}1"),
];

const DOCUMENTS: &[(&str, &str)] = &[
    ("y_object_empty", "{}"),
    ("y_object_spaces", " \t\r\n{ } \n"),
    ("y_object_all", "{\"a\":\"x\",\"b\":-7,\"c\":12.3400,\"d\":{\"e\":\"y\"},\"f\":[\"p\",\"q\"]}"),
    ("y_object_spaced", "{ \"a\" : \"x\" , \"b\" : 1 , \"f\" : [ \"p\" , \"q\" ] }"),
    ("y_object_twice_same", "{\"a\":\"x\",\"a\":\"x\"}"),
    ("y_object_twice", "{\"a\":\"first\",\"a\":\"last\"}"),
    ("y_object_twice_null", "{\"a\":\"first\",\"a\":null}"),
    ("y_object_empty_name", "{\"\":1}"),
    ("y_object_escaped_name", "{\"\\u0061\":\"x\"}"),
    ("y_object_nul_name", "{\"\\u0000\":1}"),
    ("i_object_lone_surrogate_name", "{\"\\ud800\":1}"),
    ("n_two_objects", "{\"a\":1}{\"a\":2}"),
    ("n_two_objects_space", "{\"a\":1} {\"a\":2}"),
    ("n_two_objects_line", "{\"a\":1}\n{\"a\":2}"),
    ("n_two_objects_comma", "{\"a\":1},{\"a\":2}"),
    ("n_object_then_brace", "{\"a\":1}}"),
    ("n_object_then_bracket", "{\"a\":1}]"),
    ("n_object_then_comma", "{\"a\":1},"),
    ("n_object_then_word", "{\"a\":1}x"),
    ("n_object_then_comment", "{\"a\":1}/**/"),
    ("n_object_then_quote", "{\"a\":1}\""),
    ("n_object_after_word", "x{\"a\":1}"),
    ("n_object_after_comma", ",{\"a\":1}"),
    ("n_object_twice_open", "{{\"a\":1}}"),
    ("n_object_open", "{"),
    ("n_object_open_name", "{\"a"),
    ("n_object_open_name_end", "{\"a\""),
    ("n_object_open_colon", "{\"a\":"),
    ("n_object_open_text", "{\"a\":\"x"),
    ("n_object_open_escape", "{\"a\":\"x\\"),
    ("n_object_open_unicode", "{\"a\":\"\\u00"),
    ("n_object_open_value", "{\"a\":1"),
    ("n_object_open_comma", "{\"a\":1,"),
    ("n_object_open_inner", "{\"a\":{}"),
    ("n_object_open_list", "{\"f\":[\"x\""),
    ("n_close", "}"),
    ("n_quote", "\""),
    ("n_backslash", "\\"),
    ("n_escaped_object", "\\u007b\"a\":1}"),
    ("n_html", "<a>{\"a\":1}</a>"),
    ("n_csv", "a,b,c"),
    ("n_spaces", "   "),
    ("n_json_sequence", "\u{1e}{\"a\":1}"),
];
