//! Kinds of IP addresses, as the egress proxy judges them.
//!
//! A program that may reach only some hosts must not reach this machine, its neighbours or a
//! cloud's metadata service under the name of one of these hosts. [`AddressKind::of`] is an
//! allow-list: an address is public only if it lies in a range that the Internet routes. Host
//! patterns use it for the addresses that they list, and the proxy for each address that a name
//! resolves to. The ranges are those of the IANA special-purpose registries (RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether programs behind the egress proxy may reach an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressKind {
    /// An address of the Internet.
    Public,
    /// An address of this site, which a pattern has to mark as private. The text is its range.
    Private(&'static str),
    /// An address that no pattern can allow. The text is its range.
    Refused(&'static str),
}

const LOOPBACK: AddressKind = AddressKind::Refused("a loopback address");
const UNSPECIFIED: AddressKind = AddressKind::Refused("the unspecified address");
const LINK_LOCAL: AddressKind = AddressKind::Refused("a link-local address");
const METADATA: AddressKind = AddressKind::Refused("the address of a cloud's metadata service");
const MULTICAST: AddressKind = AddressKind::Refused("a multicast address");
const RESERVED: AddressKind = AddressKind::Refused("a reserved address");
const TRANSLATED: AddressKind = AddressKind::Refused("an IPv6 form of an IPv4 address");
const PRIVATE: AddressKind = AddressKind::Private("a private address");
const SHARED: AddressKind = AddressKind::Private("an address of a provider's shared range");

impl AddressKind {
    /// The kind of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }
}

fn of_v4(address: Ipv4Addr) -> AddressKind {
    match address.octets() {
        // Alibaba's, and Azure's, which lies in a public range.
        [100, 100, 100, 200] | [168, 63, 129, 16] => METADATA,
        [169, 254, 169, 254] => METADATA,
        [0, 0, 0, 0] => UNSPECIFIED,
        [127, ..] => LOOPBACK,
        [169, 254, ..] => LINK_LOCAL,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => PRIVATE,
        [100, 64..=127, ..] => SHARED,
        [224..=239, ..] => MULTICAST,
        // "This network", protocol assignments, documentation, 6to4 relays, benchmarks, and the
        // former class E with the broadcast address.
        [0 | 240..=255, ..]
        | [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..] => RESERVED,
        _ => AddressKind::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> AddressKind {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => UNSPECIFIED,
        [0, 0, 0, 0, 0, 0, 0, 1] => LOOPBACK,
        // NAT64: a network without IPv4 reaches the rest of the Internet by it.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => match of_v4(embedded(high, low)) {
            AddressKind::Public => AddressKind::Public,
            _ => TRANSLATED,
        },
        // Compatible, mapped and translated forms, local NAT64, Teredo and 6to4.
        [0, 0, 0, 0, ..] | [0x64, 0xff9b, ..] | [0x2001, 0, ..] | [0x2002, ..] => TRANSLATED,
        // Amazon's, and Google's.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => METADATA,
        [0xfc00..=0xfdff, ..] => PRIVATE,
        [0xfe80..=0xfebf, ..] => LINK_LOCAL,
        [0xff00..=0xffff, ..] => MULTICAST,
        // Protocol assignments and documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => RESERVED,
        [0x2000..=0x3fff, ..] => AddressKind::Public,
        _ => RESERVED,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_kind_follows_the_special_purpose_ranges() {
        for (address, kind) in [
            ("1.1.1.1", AddressKind::Public),
            ("172.15.255.255", AddressKind::Public),
            ("172.32.0.1", AddressKind::Public),
            ("100.63.255.255", AddressKind::Public),
            ("100.128.0.1", AddressKind::Public),
            ("2606:4700:4700::1111", AddressKind::Public),
            ("64:ff9b::1.1.1.1", AddressKind::Public),
            ("10.0.0.7", PRIVATE),
            ("172.16.0.1", PRIVATE),
            ("172.31.255.255", PRIVATE),
            ("192.168.1.1", PRIVATE),
            ("fd12:3456::1", PRIVATE),
            ("fc00::1", PRIVATE),
            ("100.64.0.1", SHARED),
            ("100.127.255.255", SHARED),
            ("0.0.0.0", UNSPECIFIED),
            ("::", UNSPECIFIED),
            ("127.0.0.1", LOOPBACK),
            ("127.255.255.254", LOOPBACK),
            ("::1", LOOPBACK),
            ("169.254.1.1", LINK_LOCAL),
            ("fe80::1", LINK_LOCAL),
            ("febf::1", LINK_LOCAL),
            ("169.254.169.254", METADATA),
            ("168.63.129.16", METADATA),
            ("100.100.100.200", METADATA),
            ("fd00:ec2::254", METADATA),
            ("fd20:ce::254", METADATA),
            ("224.0.0.1", MULTICAST),
            ("239.255.255.255", MULTICAST),
            ("ff02::1", MULTICAST),
            ("0.1.2.3", RESERVED),
            ("192.0.0.192", RESERVED),
            ("192.0.2.1", RESERVED),
            ("198.51.100.1", RESERVED),
            ("203.0.113.1", RESERVED),
            ("198.19.0.1", RESERVED),
            ("240.0.0.1", RESERVED),
            ("255.255.255.255", RESERVED),
            ("fec0::1", RESERVED),
            ("100::1", RESERVED),
            ("2001:db8::1", RESERVED),
            ("2001:2::1", RESERVED),
            ("5f00::1", RESERVED),
            ("4000::1", RESERVED),
            ("::ffff:127.0.0.1", TRANSLATED),
            ("::ffff:1.1.1.1", TRANSLATED),
            ("::127.0.0.1", TRANSLATED),
            ("::ffff:0:127.0.0.1", TRANSLATED),
            ("64:ff9b::127.0.0.1", TRANSLATED),
            ("64:ff9b::10.0.0.7", TRANSLATED),
            ("64:ff9b::a9fe:a9fe", TRANSLATED),
            ("64:ff9b:1::1.1.1.1", TRANSLATED),
            ("2002:7f00:1::", TRANSLATED),
            ("2001:0:1::1", TRANSLATED),
        ] {
            assert_eq!(AddressKind::of(address.parse().unwrap()), kind, "{address}");
        }
    }
}
