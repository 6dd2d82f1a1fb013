// The common client command line (see ../README.md) on kafkajs.
const fs = require('fs')
const { Kafka, logLevel, CompressionTypes } = require('kafkajs')

const [verb, brokers, topic, arg, group] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'compat-kafkajs', brokers: brokers.split(','), logLevel: logLevel.ERROR, ...common() })

// common is what the file says that QUORLOG_CLIENT_CONFIG names: ssl.X is a file, sasl.X a value, and anything else a number.
function common() {
  const settings = {}
  if (!process.env.QUORLOG_CLIENT_CONFIG) return settings
  for (const line of fs.readFileSync(process.env.QUORLOG_CLIENT_CONFIG, 'utf8').trimEnd().split('\n')) {
    const at = line.indexOf('=')
    const [group, name] = line.slice(0, at).split('.')
    const value = line.slice(at + 1)
    if (name === undefined) settings[group] = Number(value)
    else settings[group] = { ...settings[group], [name]: group === 'ssl' ? fs.readFileSync(value) : value }
  }
  return settings
}

async function produce(file) {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const lines = fs.readFileSync(file, 'utf8').split('\n').slice(0, -1)
  for (let i = 0; i < lines.length; i += 500) {
    const messages = lines.slice(i, i + 500).map((value) => ({ value }))
    await producer.send({ topic, messages, compression: CompressionTypes.GZIP }) // gzip is the codec kafkajs has built in
  }
  await producer.disconnect()
}

async function consume(count, groupId) {
  const consumer = kafka.consumer({ groupId })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  let seen = 0
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, (e) => reject(e.payload.error))
    consumer.run({
      autoCommit: false, // committed by hand below, so that exactly what was printed is committed
      eachMessage: async ({ partition, message }) => {
        if (seen >= count) return
        process.stdout.write(message.value.toString() + '\n')
        await consumer.commitOffsets([{ topic, partition, offset: (BigInt(message.offset) + 1n).toString() }])
        if (++seen === count) resolve()
      },
    }).catch(reject)
  })
  await consumer.disconnect()
}

// member prints and commits for ever.
async function member(groupId) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  // Who joins is not told the generation; the first heartbeat in it tells.
  let given
  let known = -1
  consumer.on(consumer.events.GROUP_JOIN, (e) => { given = (e.payload.memberAssignment[topic] || []).join(',') })
  consumer.on(consumer.events.HEARTBEAT, (e) => {
    if (given === undefined || e.payload.groupGenerationId <= known) return
    known = e.payload.groupGenerationId
    console.log(`assigned ${known} ${given}`)
    given = undefined
  })
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, (e) => { if (!e.payload.restart) reject(e.payload.error) })
    consumer.run({
      autoCommitInterval: 500,
      eachMessage: async ({ partition, message }) => console.log(`record ${partition} ${message.offset} ${message.value}`),
    }).catch(reject)
  })
}

async function main() {
  if (verb === 'member') return member(arg)
  if (verb === 'produce') return produce(arg)
  // kafkajs has no consumer without a group: `consume` joins one of its own.
  return consume(Number(arg), verb === 'group' ? group : `consume-${process.pid}-${Date.now()}`)
}
main().then(() => process.exit(0), (err) => { console.error(err); process.exit(1) })
