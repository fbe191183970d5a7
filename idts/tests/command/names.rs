// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom a name means, and who may connect. There is no xenstore here, as for members of the
//! group `idts`, who may not use it.

use crate::bed::{Bed, Run};

/// `dom0` and aliases are the driver's to know; names are looked up only where it knows none.
#[test]
fn aliases_need_no_xenstore() {
    let bed = Bed::new();
    std::fs::write(bed.sockets().join("alias.web"), "5").unwrap();
    for (domain, name) in [("5", "web"), ("0", "dom0")] {
        let mut echo = bed.line("echo 7 --once");
        let echo = Run::piped(echo.env("IDTS_DOMAIN", domain));
        bed.wait_for(&format!("{domain}-7-0"));
        let mut ping = bed.line(&format!("ping {name}:7 -c 1"));
        Run::piped(&mut ping).end().with(0);
        echo.end().with(0);
    }
    // What the driver does not know might be a name, and nobody may look it up.
    let unknown = Run::piped(&mut bed.line("ping absent:7")).end().with(1);
    unknown.says("cannot look the domain `absent` up");
    let mut guest = bed.line("ping absent:7");
    let guest = Run::piped(guest.env("IDTS_DOMAIN", "9")).end();
    guest.with(1).says("no such domain or alias");
}

/// An id that no domain can have is not the same as any domain.
#[test]
fn only_one_domain_is_let_in() {
    let bed = Bed::new();
    for verb in ["recv 7 in", "echo 7", "cat -l 7"] {
        for id in ["65535", "32752", "65536", "-1"] {
            let args = format!("{verb} --from={id}");
            Run::piped(&mut bed.line(&args)).end().with(2);
        }
        let failed = Run::piped(&mut bed.line(&format!("{verb} --from guest"))).end();
        failed.with(1).says("cannot look the domain `guest` up");
    }
    let echo = Run::piped(&mut bed.line("echo 7 --once --from 5"));
    bed.wait_for("0-7-0");
    for (domain, code) in [("4", 1), ("5", 0)] {
        let mut ping = bed.line("ping 0:7 --wait 60 -c 1");
        Run::piped(ping.env("IDTS_DOMAIN", domain)).end().with(code);
    }
    echo.end().with(0);
    // dom0 needs no looking up.
    let _cat = Run::piped(&mut bed.line("cat -l 8 --from dom0"));
    bed.wait_for("0-8-0");
}
