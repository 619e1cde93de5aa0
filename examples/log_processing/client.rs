//! The name of a client: an address, a host, or a list of addresses to which proxies have added theirs.

use std::net::{IpAddr, Ipv6Addr};

/// The longest name of a host.
const MAX_HOST: usize = 253;

/// The longest zone of an address: the names of network interfaces are shorter.
const MAX_ZONE: usize = 64;

/// The client that a field names, without its port; nothing if the field names none.
///
/// Of a list, as in `X-Forwarded-For`, it is the first address: each proxy adds the address from which it received the
/// request.
pub(crate) fn client(field: &str) -> Option<&str> {
    address(field).or_else(|| is_host(field).then_some(field)).or_else(|| first_address(field))
}

/// The address in `192.0.2.1`, `192.0.2.1:39496`, `2001:db8::1`, `fe80::1%eth0.100`, `[2001:db8::1]`, or `[2001:db8::1]:443`.
pub(crate) fn address(text: &str) -> Option<&str> {
    if text.parse::<IpAddr>().is_ok() {
        return Some(text);
    }
    let is_v6 = |text: &str| {
        let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
        address.parse::<Ipv6Addr>().is_ok()
            && (1..=MAX_ZONE).contains(&zone.len())
            && zone.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~')
            })
    };
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return (is_v6(address) && port_fits).then_some(address);
    }
    match text.rsplit_once(':') {
        // nginx writes that for a socket in the file system.
        Some(("unix", "")) => Some(text),
        Some((address, port)) if !address.contains(':') => {
            (is_port(port) && address.parse::<IpAddr>().is_ok()).then_some(address)
        }
        Some(_) => is_v6(text).then_some(text),
        None => None,
    }
}

/// Whether it may be the name of a host. A name that ends in a number is an invalid address, or a date.
fn is_host(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    text.len() <= MAX_HOST
        && is_name(name)
        && last.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Whether it may be a virtual host, as servers write it: a name, often with its port, or the placeholder for any host.
pub(crate) fn is_virtual_host(text: &str) -> bool {
    let name =
        text.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(text, |(name, _)| name);
    matches!(name, "-" | "_" | "*") || is_name(name) || address(text).is_some()
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    text.bytes().all(fits)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The first address of a list. A proxy that does not know the address adds a word.
pub(crate) fn first_address(list: &str) -> Option<&str> {
    let mut parts = list.split(',').map(str::trim_ascii).peekable();
    let unknown = |part: &str| matches!(part, "" | "-" | "unknown");
    while parts.next_if(|part| unknown(part)).is_some() {}
    let client = address(parts.next()?)?;
    parts
        .all(|part| unknown(part) || address(part).is_some() || is_host(part))
        .then_some(client)
}
