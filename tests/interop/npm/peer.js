// npm's smpp as message centre or ESME: told what to do by lines of JSON on stdin, tells what it sees by lines on stdout.
// The one argument is JSON: {role: "esme", port, bind, system_id, password}, or {role: "smsc", password, statuses, nacked,
// without_id}: the status for each number that is refused, and the numbers answered by generic_nack, and without an id.
'use strict';

const readline = require('readline');
const smpp = require('smpp');

const settings = JSON.parse(process.argv[2]);
const sessions = [];
let ids = 0;

function tell(event) {
  process.stdout.write(JSON.stringify(event) + '\n');
}

function plain(value) {
  return Buffer.isBuffer(value) ? value.toString('hex') : value;
}

function describe(session, pdu) {
  const event = {
    connection: sessions.indexOf(session),
    command: pdu.command,
    status: pdu.command_status,
    sequence: pdu.sequence_number,
    fields: {},
    tlvs: {},
  };
  const params = (smpp.commands[pdu.command] || {}).params || {};
  for (const key of Object.keys(pdu)) {
    if (key === 'short_message') continue;
    if (key in params) event.fields[key] = plain(pdu[key]);
    else if (key in smpp.tlvs || /^\d+$/.test(key)) event.tlvs[key] = plain(pdu[key]);
  }
  if (pdu.short_message) {
    event.text = plain(pdu.short_message.message);
    if (pdu.short_message.udh) event.udh = Buffer.concat(pdu.short_message.udh).toString('hex');
  }
  return event;
}

function answer(pdu) {
  if (pdu.command.startsWith('bind_')) {
    const refused = settings.password !== undefined && pdu.password !== settings.password;
    return { system_id: 'npm', command_status: refused ? smpp.ESME_RINVPASWD : 0 };
  }
  if (pdu.command === 'submit_sm') {
    const status = settings.statuses[pdu.destination_addr] || 0;
    if (pdu.destination_addr === settings.without_id) return {};
    return status ? { command_status: status } : { message_id: 'npm-' + String(++ids).padStart(4, '0') };
  }
  return {};
}

function serve(session) {
  sessions.push(session);
  session.on('pdu', (pdu) => {
    const event = describe(session, pdu);
    if (pdu.isResponse()) return tell(event);
    const options = answer(pdu);
    tell({ ...event, message_id: options.message_id });
    if (pdu.command === 'submit_sm' && pdu.destination_addr === settings.nacked) {
      return session.send(new smpp.PDU('generic_nack', { sequence_number: pdu.sequence_number, command_status: 3 }));
    }
    session.send(pdu.response(options));
    if (pdu.command === 'unbind') session.close();
  });
  session.on('error', (error) => tell({ event: 'error', text: String(error) }));
  session.on('close', () => tell({ event: 'closed', connection: sessions.indexOf(session) }));
}

function act(line) {
  const told = JSON.parse(line);
  const session = sessions[told.connection === undefined ? sessions.length - 1 : told.connection];
  const options = { ...told.fields, ...told.tlvs };
  for (const [tag, octets] of Object.entries(told.octet_tlvs || {})) options[tag] = Buffer.from(octets, 'hex');
  if (told.octets !== undefined) options.short_message = Buffer.from(told.octets, 'hex');
  if (told.text !== undefined) options.short_message = { message: told.text };
  if (told.udh !== undefined) options.short_message.udh = Buffer.from(told.udh, 'hex');
  session[told.do](options);
}

function listen() {
  const server = smpp.createServer(serve);
  server.listen(0, '127.0.0.1', () => tell({ event: 'listening', port: server.address().port }));
}

function connect() {
  const session = smpp.connect({ host: '127.0.0.1', port: settings.port }, () => {
    const { system_id, password } = settings;
    session[settings.bind]({ system_id, password, interface_version: 0x34 });
  });
  serve(session);
}

readline.createInterface({ input: process.stdin }).on('line', act).on('close', () => process.exit(0));
if (settings.role === 'smsc') listen();
else connect();
