// SPDX-License-Identifier: GPL-2.0

//! The test of the test: small houses in which one thing is wrong, in each form that the
//! language has for it, and it is found.

use idts_floors::files::Sources;
use idts_floors::house::House;
use idts_floors::rules;
use idts_floors::table::Table;

/// Two floors of one crate, and a driver that is another crate.
const TABLE: &str = "\
held idts_core c/lib.rs
held idts_kernel k/lib.rs
held idts_front f/front.rs
held other o/lib.rs
floor core: c/
floor low: k/low.rs k/low/
floor high: k/high.rs k/high/
beside side: k/side.rs k/side/
floor top: k/lib.rs f/
";

const HIGH: &str = "//! High.
pub struct Thing;
pub trait Act { fn act(&self) {} }
pub fn make() -> u32 { 0 }
pub const LIMIT: u32 = 0;
pub mod deep { pub struct Inner; }
#[macro_export] macro_rules! of_high { () => {} }
";

/// A house of these files, beside those that every house has.
fn house(files: &[(&str, &str)]) -> (House, Table) {
    with_table(TABLE, files)
}

fn with_table(table: &str, files: &[(&str, &str)]) -> (House, Table) {
    let mut sources = Sources::from([
        ("c/lib.rs".into(), "//! Core.\n".into()),
        (
            "k/lib.rs".into(),
            "//! Kernel.\nmod low;\nmod high;\nmod side;\n".into(),
        ),
        ("k/low.rs".into(), "//! Low.\n".into()),
        ("k/high.rs".into(), HIGH.into()),
        ("k/side.rs".into(), "//! Side.\npub struct S;\n".into()),
        ("f/front.rs".into(), "//! Front.\n".into()),
        ("o/lib.rs".into(), "//! Other.\n".into()),
    ]);
    for (file, text) in files {
        sources.insert((*file).into(), (*text).into());
    }
    let table = Table::parse(table).expect("a table");
    let house = House::read(sources, &table.held).expect("a house");
    (house, table)
}

/// What is wrong by the rule of floors.
fn upward(files: &[(&str, &str)]) -> Vec<String> {
    let (house, table) = house(files);
    rules::upward(&house, &table)
}

#[track_caller]
fn found(what: &str, wrong: &[String], names: &[&str]) {
    let hit = |line: &&String| names.iter().all(|name| line.contains(name));
    assert!(
        wrong.iter().any(|w| hit(&w)),
        "{what}: not found in {wrong:?}"
    );
}

#[test]
fn an_upward_path_of_each_form_is_found() {
    let forms = [
        ("use", "use crate::high::Thing;"),
        ("use of a module", "use crate::high;"),
        ("use in braces", "use crate::{side as _, high::{deep::{self}, Thing}};"),
        ("use under another name", "use crate::high::Thing as Mine;"),
        ("use for its trait alone", "use crate::high::Act as _;"),
        ("use of everything", "use crate::high::*;"),
        ("use in a function", "fn f() { use crate::high::make; make(); }"),
        ("use in a block", "const A: u32 = { use crate::high::LIMIT; LIMIT };"),
        ("use by super", "use super::high::Thing;"),
        ("use by an extern crate", "extern crate self as me; use me::high::Thing;"),
        ("use by self and super", "use self::super::high::Thing;"),
        ("super in a module of the file", "mod m { use super::super::high::Thing; }"),
        ("handed on", "pub(crate) use crate::high::Thing;"),
        ("call", "fn f() -> u32 { crate::high::make() }"),
        ("call by super", "fn f() -> u32 { super::high::make() }"),
        ("constant", "const A: u32 = crate::high::LIMIT;"),
        ("type of an argument", "fn f(_: &crate::high::Thing) {}"),
        ("type of a field", "struct A(Option<Box<crate::high::Thing>>);"),
        ("type in the middle of a path", "fn f() { Vec::<crate::high::Thing>::new(); }"),
        ("bound", "fn f<T: crate::high::Act>(_: T) {}"),
        ("bound in a where", "fn f<T>(_: T) where T: crate::high::Act {}"),
        ("trait object", "fn f(_: &dyn crate::high::Act) {}"),
        ("impl Trait", "fn f(_: impl crate::high::Act) {}"),
        ("trait of an impl", "struct A; impl crate::high::Act for A {}"),
        ("trait of a method", "fn f<T>(t: &T) { <T as crate::high::Act>::act(t) }"),
        ("pattern", "fn f(n: u32) -> bool { matches!(n, 1) || match n { crate::high::LIMIT => true, _ => false } }"),
        ("structure", "fn f() { let _ = crate::high::Thing {}; }"),
        ("path of a module under another name", "use crate as all; fn f() -> u32 { all::high::make() }"),
        ("argument of a macro", "fn f() { println!(\"{}\", crate::high::LIMIT); }"),
        ("argument of a macro, by super", "fn f() { assert!(super::high::make() == 0); }"),
        ("braces in a macro", "thing! { use crate::{high::{Thing, Act}}; }"),
        ("deep in a macro", "fn f() { vec![Some((1, [crate::high::LIMIT]))]; }"),
        ("macro by its path", "fn f() { crate::high::of_high!(); }"),
        ("macro by its name", "fn f() { of_high!(); }"),
        ("body of a macro", "macro_rules! m { () => { $crate::high::make() } } fn f() { m!(); }"),
        ("unhygienic body of a macro", "macro_rules! m { () => { super::high::make() } } fn f() { m!(); }"),
        ("attribute", "#[derive(crate::high::Thing)] struct A;"),
        ("attribute by its path", "#[crate::high::act] fn f() {}"),
        ("string in an attribute", "#[serde(with = \"crate::high\")] struct A;"),
        ("raw name", "use crate::r#high::Thing;"),
        ("async, closures, loops", "fn f() { let g = || loop { break crate::high::make() }; g(); }"),
        ("const generic", "struct A<const N: u32>; fn f(_: A<{ crate::high::LIMIT }>) {}"),
        ("alias", "type A = crate::high::Thing;"),
        ("associated type", "trait T { type A; } struct B; impl T for B { type A = crate::high::Thing; }"),
        ("extern block", "extern \"C\" { fn f(a: *const crate::high::Thing); }"),
    ];
    for (what, text) in forms {
        let low = format!("//! Low.\n{text}\n");
        let wrong = upward(&[("k/low.rs", &low)]);
        found(what, &wrong, &["k/low.rs -> k/high.rs"]);
    }
}

#[test]
fn an_upward_path_in_another_file_is_found() {
    let low = (
        "k/low.rs",
        "//! Low.\nmod child;\npub(crate) use self::child::C;\n",
    );
    let child = (
        "k/low/child.rs",
        "//! Child.\npub struct C(super::super::high::Thing);\n",
    );
    found(
        "child",
        &upward(&[low, child]),
        &["k/low/child.rs -> k/high.rs"],
    );
    let named = (
        "k/low.rs",
        "//! Low.\n#[path = \"low/odd_name.rs\"] mod child;\n",
    );
    let odd = ("k/low/odd_name.rs", "//! Child.\nuse crate::high::Thing;\n");
    found(
        "by its path",
        &upward(&[named, odd]),
        &["k/low/odd_name.rs -> k/high.rs"],
    );
    let chosen = (
        "k/low.rs",
        "//! Low.\n#[cfg_attr(feature = \"odd\", path = \"low/odd_name.rs\")] mod child;\n",
    );
    let (even, odd) = (("k/low/child.rs", "//! Child.\n"), odd);
    found(
        "chosen by a feature",
        &upward(&[chosen, even, odd]),
        &["k/low/odd_name.rs -> k/high.rs"],
    );
    let of_core = ("c/lib.rs", "//! Core.\nuse idts_kernel::high::Thing;\n");
    found(
        "another crate",
        &upward(&[of_core]),
        &["c/lib.rs -> k/high.rs"],
    );
    let of_low = ("k/low.rs", "//! Low.\nuse idts_front::Front;\n");
    found(
        "a crate above",
        &upward(&[of_low]),
        &["k/low.rs -> f/front.rs"],
    );
}

/// Who hands something on from above is above, for whoever takes it; and what it is stays
/// where it is.
#[test]
fn what_is_handed_on_is_followed() {
    let through = (
        "k/lib.rs",
        "//! K.\nmod low;\nmod high;\nmod side;\npub use high::Thing;\n",
    );
    let low = ("k/low.rs", "//! Low.\nuse crate::Thing;\n");
    let wrong = upward(&[through, low]);
    found("to the item", &wrong, &["k/low.rs -> k/high.rs"]);
    found("to who hands it on", &wrong, &["k/low.rs -> k/lib.rs"]);
    let all = (
        "k/lib.rs",
        "//! K.\nmod low;\nmod high;\nmod side;\npub use high::*;\n",
    );
    found(
        "with everything",
        &upward(&[all, low]),
        &["k/low.rs -> k/high.rs"],
    );
    let renamed = (
        "k/lib.rs",
        "//! K.\nmod low;\nmod high;\nmod side;\nuse high as up;\n",
    );
    let low = (
        "k/low.rs",
        "//! Low.\nfn f() -> u32 { crate::up::make() }\n",
    );
    found(
        "a module",
        &upward(&[renamed, low]),
        &["k/low.rs -> k/high.rs"],
    );
}

#[test]
fn what_runs_down_or_is_no_import_is_let_be() {
    let down = [
        ("k/low.rs", "//! Low, below [`crate::high`].\npub struct L;\n/// Not crate::high::Thing.\npub fn f() -> &'static str { \"crate::high::make\" }\n#[cfg(test)] mod tests { use crate::high::Thing; }\npub(in crate::low) struct P;\n"),
        ("k/high.rs", "//! High.\nuse crate::low::L;\npub struct Thing;\n"),
        ("f/front.rs", "//! Front.\nuse idts_kernel::high::Thing;\n"),
    ];
    assert_eq!(upward(&down), Vec::<String>::new());
    let (house, table) = house(&down);
    assert_eq!(rules::circular(&house, &table), Vec::<String>::new());
}

#[test]
fn rooms_of_one_floor_import_each_other_one_way_at_most() {
    let high = (
        "k/high.rs",
        "//! High.\nuse crate::side::S;\npub struct Thing;\n",
    );
    let side = (
        "k/side.rs",
        "//! Side.\nuse crate::high::Thing;\npub struct S;\n",
    );
    assert_eq!(upward(&[high]), Vec::<String>::new());
    found("both", &upward(&[high, side]), &["import each other"]);
}

#[test]
fn circles_are_found() {
    let circular = |files: &[(&str, &str)]| {
        let (house, table) = house(files);
        rules::circular(&house, &table)
    };
    let root = ("o/lib.rs", "//! O.\nmod a;\nmod b;\nmod c;\n");
    let a = ("o/a.rs", "//! A.\nuse crate::b::B;\npub struct A;\n");
    let b = (
        "o/b.rs",
        "//! B.\npub struct B;\npub fn f() { crate::c::f() }\n",
    );
    let c = ("o/c.rs", "//! C.\npub fn f() { foreign!(super::a::A) }\n");
    let straight = ("o/c.rs", "//! C.\npub fn f() {}\n");
    assert_eq!(circular(&[root, a, b, straight]), Vec::<String>::new());
    let wrong = circular(&[root, a, b, c]);
    found(
        "three files",
        &wrong,
        &["circle of 3 files", "o/a.rs", "o/b.rs", "o/c.rs"],
    );
    // A child that takes from its parent what the parent hands on from it.
    let root = (
        "o/lib.rs",
        "//! O.\nmod a;\npub use a::A;\npub const N: u32 = 0;\n",
    );
    let a = ("o/a.rs", "//! A.\npub struct A([u8; super::N as usize]);\n");
    found("parent", &circular(&[root, a]), &["circle of 2 files"]);
    let root = ("o/lib.rs", "//! O.\nmod a;\npub const N: u32 = 0;\n");
    assert_eq!(
        circular(&[root, a]),
        Vec::<String>::new(),
        "mod is no import"
    );
    // Programs are told, not failed.
    let program = (
        "p/src/bin/p/main.rs",
        "//! P.\nmod q;\nuse q::Q;\npub struct P;\n",
    );
    let part = ("p/src/bin/p/q.rs", "//! Q.\nuse crate::P;\npub struct Q;\n");
    let (house, table) = house(&[program, part]);
    assert_eq!(rules::circular(&house, &table), Vec::<String>::new());
    found("told", &rules::told(&house), &["p/src/bin/p/q.rs"]);
}

#[test]
fn exceptions_count_until_they_are_not_needed() {
    let low = ("k/low.rs", "//! Low.\nuse crate::high::Thing;\n");
    let text = format!("{TABLE}up k/low.rs -> k/high.rs\n");
    let (house, table) = with_table(&text, &[low]);
    assert_eq!(rules::upward(&house, &table), Vec::<String>::new());
    let (house, table) = with_table(&text, &[]);
    found(
        "up",
        &rules::upward(&house, &table),
        &["not needed", "k/low.rs"],
    );

    let root = ("o/lib.rs", "//! O.\nmod a;\nmod b;\n");
    let a = ("o/a.rs", "//! A.\nuse crate::b::B;\npub struct A;\n");
    let b = ("o/b.rs", "//! B.\nuse crate::a::A;\npub struct B;\n");
    let text = format!("{TABLE}circle o/a.rs -> o/b.rs\n");
    let (house, table) = with_table(&text, &[root, a, b]);
    assert_eq!(rules::circular(&house, &table), Vec::<String>::new());
    let (house, table) = with_table(&text, &[root, a, ("o/b.rs", "//! B.\npub struct B;\n")]);
    found(
        "circle",
        &rules::circular(&house, &table),
        &["not needed", "o/a.rs"],
    );
}

#[test]
fn impls_of_one_type_in_two_folders_are_found() {
    let root = ("o/lib.rs", "//! O.\nmod a;\nmod b;\n");
    let opens = ("o/a.rs", "//! A.\nmod more;\npub struct A;\nimpl A {}\n");
    let inside = ("o/a/more.rs", "//! More.\nimpl super::A {}\n");
    let b = ("o/b.rs", "//! B.\n");
    let (whole, table) = house(&[root, opens, inside, b]);
    assert_eq!(
        rules::parted(&whole, &table),
        Vec::<String>::new(),
        "a folder and its file"
    );
    for (what, text) in [
        ("by its name", "use crate::a::A;\nimpl A {}"),
        ("by its path", "impl crate::a::A {}"),
        ("under another name", "use crate::a::A as B;\nimpl B {}"),
        ("in a function", "fn f() { impl crate::a::A {} }"),
        ("in a macro", "thing! { impl crate::a::A { fn f() {} } }"),
    ] {
        let b = ("o/b.rs", format!("//! B.\n{text}\n"));
        let (house, table) = house(&[root, opens, inside, (b.0, &b.1)]);
        found(
            what,
            &rules::parted(&house, &table),
            &["parted o/a.rs A: o o/a"],
        );
    }
    let text = format!("{TABLE}parted o/a.rs A: o o/a\n");
    let (whole, table) = with_table(&text, &[root, opens, inside, b]);
    found("kept", &rules::parted(&whole, &table), &["not needed"]);
}

#[test]
fn an_impl_of_a_trait_stands_with_the_upper_of_trait_and_type() {
    let astray = |files: &[(&str, &str)]| {
        let (house, table) = house(files);
        rules::astray(&house, &table)
    };
    let low = ("k/low.rs", "//! Low.\npub trait Wake {}\npub struct L;\n");
    // With the type, which is above the trait.
    let high = (
        "k/high.rs",
        "//! High.\npub struct Thing;\nimpl crate::low::Wake for Thing {}\n",
    );
    assert_eq!(astray(&[low, high]), Vec::<String>::new());
    // With the trait, which is above the type.
    let high = (
        "k/high.rs",
        "//! High.\npub trait Act {}\nimpl Act for crate::low::L {}\npub struct Thing;\n",
    );
    assert_eq!(astray(&[low, high]), Vec::<String>::new());
    // With neither.
    let high = ("k/high.rs", "//! High.\npub struct Thing;\n");
    let front = (
        "f/front.rs",
        "//! F.\nuse idts_kernel::{high::Thing, low::Wake};\nimpl Wake for Thing {}\n",
    );
    found(
        "neither",
        &astray(&[low, high, front]),
        &["f/front.rs: Wake for Thing"],
    );
    // With the lower of the two.
    let low = (
        "k/low.rs",
        "//! Low.\npub trait Wake {}\nimpl Wake for crate::high::Thing {}\n",
    );
    found("lower", &astray(&[low, high]), &["k/low.rs: Wake for"]);
    // A trait of somebody else stands with the type, or with what it is given.
    let low = (
        "k/low.rs",
        "//! Low.\nimpl From<L> for u32 {}\npub struct L;\n",
    );
    assert_eq!(astray(&[low]), Vec::<String>::new());
    let front = (
        "f/front.rs",
        "//! F.\nuse idts_kernel::high::Thing;\nwork! { impl Work<0> for Thing { self.work } }\n",
    );
    found(
        "macro",
        &astray(&[high, front]),
        &["f/front.rs: Work for Thing"],
    );
}

#[test]
fn what_a_macro_makes_belongs_to_who_calls_it() {
    // The definition names what is above; only who calls it imports it.
    let low = ("k/low.rs", "//! Low.\n#[macro_export] macro_rules! made { () => { impl $crate::high::Act for Mine {} } }\n");
    let high = (
        "k/high.rs",
        "//! High.\npub trait Act {}\nstruct Mine;\nmade!();\n",
    );
    assert_eq!(upward(&[low, high]), Vec::<String>::new());
    let (house, _) = house(&[low, high]);
    let down = ("k/high.rs".to_owned(), "k/low.rs".to_owned());
    assert!(
        house.arrows.contains_key(&down),
        "a call is an import of the macro"
    );
}

#[test]
fn the_core_may_name_nothing_but_core() {
    for (what, text) in [
        ("kernel", "use kernel::prelude::*;"),
        ("inline", "fn f() { kernel::warn(); }"),
        ("our kernel side", "use idts_kernel::high::Thing;"),
        ("in a macro", "thing!(kernel::bindings::x);"),
        ("std", "use std::vec::Vec;"),
        ("extern crate", "extern crate std;"),
    ] {
        let (house, _) = house(&[("c/lib.rs", &format!("//! Core.\n{text}\n"))]);
        found(what, &rules::impure(&house), &["c/lib.rs"]);
    }
    let text = "//! Core.\nuse core::fmt;\nfn f() -> u32 { u32::MAX + Self::X + T::Y }\n";
    let (house, _) = house(&[("c/lib.rs", text)]);
    assert_eq!(rules::impure(&house), Vec::<String>::new());
}

#[test]
fn files_without_comment_floor_or_crate_are_found() {
    let (bare, _) = house(&[("k/high.rs", "// Not one.\npub struct Thing;\n")]);
    found("comment", &rules::undocumented(&bare), &["k/high.rs"]);
    let (lost, _) = house(&[("k/lost.rs", "//! Lost.\n")]);
    found("crate", &rules::stray(&lost), &["k/lost.rs"]);
    let root = (
        "k/lib.rs",
        "//! K.\nmod low;\nmod high;\nmod side;\nmod new;\n",
    );
    let (new, table) = house(&[root, ("k/new.rs", "//! New.\n")]);
    found(
        "floor",
        &rules::places(&new, &table),
        &["k/new.rs is on no floor"],
    );
    let text = TABLE.replace("k/low.rs k/low/", "k/low.rs k/old.rs");
    let (old, table) = with_table(&text, &[]);
    found("gone", &rules::places(&old, &table), &["k/old.rs"]);
}
