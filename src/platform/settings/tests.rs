use super::*;

#[derive(Debug, PartialEq)]
struct Node {
    region: String,
    api: std::net::SocketAddr,
    heartbeat: Duration,
    queue: u64,
    seeds: Vec<std::net::SocketAddr>,
    disks: Vec<(String, u64)>,
}

fn node(r: &Reader) -> Option<Node> {
    let listen = r.map("listen");
    let region = r.string("region").example("us-east-1").required();
    let api = listen.parsed("api").example("127.0.0.1:7400").required();
    let heartbeat = r
        .duration("heartbeat")
        .example("500ms")
        .check(|d| (d.as_millis() < 10).then(|| "must be at least 10ms".into()))
        .default(Duration::from_millis(500));
    let queue = r.size("queue").default(8 << 30);
    let seeds = r.parsed_list("seeds");
    let disks = r
        .entries("disks")
        .into_iter()
        .filter_map(|(name, disk)| Some((name, disk.size("limit").required()?)))
        .collect();
    Some(Node { region: region?, api: api?, heartbeat, queue, seeds, disks })
}

fn read(text: &str) -> Result<Node, Problems> {
    Reader::parse("node.yaml", text)?.build(node)
}

#[test]
fn a_good_file_gives_its_values_and_the_defaults() {
    let text = "
region: us-east-1
listen: { api: '127.0.0.1:7400' }
heartbeat: 50ms
seeds: ['127.0.0.1:7401', '127.0.0.1:8401']
disks:
  fast: { limit: 64MiB }
  slow: { limit: 1TiB }
queue:
";
    let node = read(text).unwrap();
    assert_eq!(node.heartbeat, Duration::from_millis(50));
    assert_eq!(node.queue, 8 << 30, "an empty value is an absent one");
    assert_eq!(node.seeds.len(), 2);
    assert_eq!(node.disks, [("fast".to_owned(), 64 << 20), ("slow".to_owned(), 1 << 40)]);
}

#[test]
fn every_problem_is_named_at_once_with_key_value_reason_and_example() {
    let text = "
region: 7
heartbeat: 5ms
queue: 8 gigs
seeds: [here, '127.0.0.1:1']
disks: { fast: {} }
listne: { api: '127.0.0.1:7400' }
";
    let problems = read(text).unwrap_err();
    let expected = "\
node.yaml: 7 problems
  region: 7: must be text: write \"7\" (for example us-east-1)
  listen.api: is missing (for example 127.0.0.1:7400)
  heartbeat: '5ms': must be at least 10ms (for example 500ms)
  queue: '8 gigs': must be a whole number and one of B, KiB, MiB, GiB, TiB (for example 64MiB)
  seeds[0]: 'here': invalid socket address syntax
  disks.fast.limit: is missing (for example 64MiB)
  listne: is not a known key (for example listen)";
    assert_eq!(problems.to_string(), expected);
}

#[test]
fn an_unknown_key_is_refused_wherever_it_stands() {
    let text = "
region: us-east-1
listen: { api: '127.0.0.1:7400', apii: x }
disks: { fast: { limit: 1MiB, burst: 2MiB } }
";
    let keys: Vec<String> =
        read(text).unwrap_err().list.into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["listen.apii", "disks.fast.burst"]);
}

#[test]
fn a_file_that_is_not_a_mapping_says_so() {
    for text in ["- a\n- b", "just text", "a: [", "a: 1\na: 2"] {
        assert_eq!(read(text).unwrap_err().list.len(), 1, "{text}");
    }
    let missing: Vec<_> = read("").unwrap_err().list.into_iter().map(|p| p.key).collect();
    assert_eq!(missing, ["region", "listen.api"]);
}

#[test]
fn a_secret_is_not_repeated_in_the_message() {
    let reader = Reader::parse("x.yaml", "token: hunter2").unwrap();
    let problems = reader
        .build(|r| r.string("token").secret().check(|_| Some("is too short".into())).required())
        .unwrap_err();
    assert!(!problems.to_string().contains("hunter2"), "{problems}");
    assert!(problems.to_string().contains("is too short"));
}

#[test]
fn durations_and_sizes_need_a_whole_number_and_a_unit() {
    for (text, millis) in [("500ms", 500), ("60s", 60_000), ("30m", 1_800_000), ("24h", 86_400_000)]
    {
        let duration = parse_duration(text).unwrap();
        assert_eq!(duration.as_millis(), millis);
        assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
    }
    for (text, bytes) in [("512B", 512), ("64MiB", 64 << 20), ("8GiB", 8 << 30)] {
        assert_eq!(parse_size(text), Ok(bytes));
        assert_eq!(show_size(bytes), text);
    }
    for text in ["60", "1.5s", "-1s", "s", "60 s", "1h30m", "99999999999999999999s", "60S", ""] {
        assert!(parse_duration(text).is_err(), "accepted {text:?}");
    }
    for text in ["64MB", "64", "MiB", "99999999999TiB"] {
        assert!(parse_size(text).is_err(), "accepted {text:?}");
    }
    assert_eq!(show_duration(Duration::ZERO), "0ms");
}
