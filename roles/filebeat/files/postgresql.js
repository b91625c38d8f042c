// Takes out of a line what the module's pattern does not know or takes for something else, and leaves a line that it parses.
//
//   2026-01-02 03:04:05.678 UTC [123] 42P01 polls@polls ERROR:  relation "x" does not exist
//   2026-01-02 03:04:05 +0000 [45] INFO:  no action. I am (postgres-1), the leader with the lock   (Patroni)
//
// The module knows user and database of plain names only, and it takes a first word that looks like an error code (a
// number in 7.10, five capitals such as GRANT in 8.19) out of the message. ECMAScript 5.1: what Filebeat's engine knows.

var LINE = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?) (\S+) \[(\d+)\] (?:([0-9A-Z]{5}) )?(?:([^\n]*?)@([^\n]*?) )??([A-Z]+\d?):  ([\s\S]*)$/;
var UNKNOWN = "[unknown]";

function two(number) {
    return (number < 10 ? "0" : "") + number;
}

function stamp(date) {
    return date.getUTCFullYear() + "-" + two(date.getUTCMonth() + 1) + "-" + two(date.getUTCDate()) + " " +
        two(date.getUTCHours()) + ":" + two(date.getUTCMinutes()) + ":" + two(date.getUTCSeconds());
}

// Returns date and time in UTC. A zone that is given by name stays with the module.
function utc(day, time, zone) {
    var offset = /^([+-])(\d\d):?(\d\d)$/.exec(zone);
    if (offset === null) {
        return day + " " + time + " " + zone;
    }
    var parts = (day + " " + time).split(/[-: .]/);
    var minutes = (offset[1] === "-" ? -1 : 1) * (Number(offset[2]) * 60 + Number(offset[3]));
    var moment = new Date(Date.UTC(parts[0], parts[1] - 1, parts[2], parts[3], parts[4] - minutes, parts[5]));
    return stamp(moment) + (parts.length > 6 ? "." + parts[6] : "") + " UTC";
}

function process(event) {
    var line = event.Get("message");
    var path = event.Get("log.file.path");
    event.Put("process.name", path !== null && path.indexOf("patroni") >= 0 ? "patroni" : "postgres");
    var found = LINE.exec(line);
    if (found === null) {
        // A program that PostgreSQL runs wrote to its standard error, as the first line of a file.
        event.Put("message", stamp(new Date()) + " UTC [0] UNKNOWN:  : " + line);
        return;
    }
    var code = found[5], user = found[6], database = found[7], text = found[9];
    if (code && code !== "00000") {
        event.Put("postgresql.log.sql_state_code", code);
    }
    if (user && user !== UNKNOWN) {
        event.Put("user.name", user);
    }
    if (database && database !== UNKNOWN) {
        event.Put("postgresql.log.database", database);
    }
    // These two beginnings the module looks for; before all others, a colon keeps the first word in the message.
    if (!/^(?:duration|statement): /.test(text)) {
        text = ": " + text;
    }
    event.Put("message", utc(found[1], found[2], found[3]) + " [" + found[4] + "] " + found[8] + ":  " + text);
}

function check(line, expected) {
    var event = new Event({message: line, log: {file: {path: expected.path || "/var/log/postgresql/a.log"}}});
    process(event);
    var got = {
        message: event.Get("message"),
        user: event.Get("user.name"),
        database: event.Get("postgresql.log.database"),
        code: event.Get("postgresql.log.sql_state_code"),
        process: event.Get("process.name")
    };
    ["message", "user", "database", "code", "process"].forEach(function (name) {
        if ((expected[name] || null) !== got[name]) {
            throw line + ": " + name + " is " + got[name] + ", expected " + expected[name];
        }
    });
}

// Filebeat runs this when it loads the script: a change that breaks one of these keeps the new configuration from being used.
function test() {
    var at = "2026-01-02 03:04:05.678 UTC [12] ";
    check(at + "42P01 polls@polls ERROR:  relation \"x\" does not exist at character 15", {
        message: at + "ERROR:  : relation \"x\" does not exist at character 15",
        user: "polls", database: "polls", code: "42P01", process: "postgres"
    });
    check(at + "00000 LOG:  checkpoint starting: time", {message: at + "LOG:  : checkpoint starting: time", process: "postgres"});
    check(at + "LOG:  a line in the form of before", {message: at + "LOG:  : a line in the form of before", process: "postgres"});
    check(at + "00000 a-b c.d@my-db x STATEMENT:  GRANT SELECT\n\tON \"größe\" TO \"müller\"\n\n", {
        message: at + "STATEMENT:  : GRANT SELECT\n\tON \"größe\" TO \"müller\"\n\n",
        user: "a-b c.d", database: "my-db x", process: "postgres"
    });
    check(at + "28000 [unknown]@[unknown] FATAL:  no PostgreSQL user name", {
        message: at + "FATAL:  : no PostgreSQL user name", code: "28000", process: "postgres"
    });
    check(at + "00000 repuser@[unknown] LOG:  received replication command", {
        message: at + "LOG:  : received replication command", user: "repuser", process: "postgres"
    });
    check(at + "00000 u@d LOG:  duration: 1.500 ms  statement: SELECT 1", {
        message: at + "LOG:  duration: 1.500 ms  statement: SELECT 1", user: "u", database: "d", process: "postgres"
    });
    check(at + "57P01 LOG:  mail x@y ERROR:  z", {message: at + "LOG:  : mail x@y ERROR:  z", code: "57P01", process: "postgres"});
    check("2026-01-01 00:30:00 +0100 [7] INFO:  promoted self to leader by acquiring session lock", {
        path: "/var/log/patroni/patroni.log", process: "patroni",
        message: "2025-12-31 23:30:00 UTC [7] INFO:  : promoted self to leader by acquiring session lock"
    });
}
