-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- Wireshark: recordings of multiferry, and QEMU's own multifd channels.
--
--   wireshark -X lua_script:multiferry.lua web1.pcapng
--   tshark -X lua_script:multiferry.lua -r web1.pcapng -V
--
-- or put it into the personal Lua plugins directory (Help > About > Folders).
-- A recording, made by "multiferry record", has the link type USER0, and before
-- each piece a header of 32 bytes (wire/recording.h).  A capture of QEMU's own
-- connections on TCP is shown too: a channel is known by its init packet, where that
-- is a segment of its own, as QEMU sends it; else choose the port by "Decode As".

local recording = Proto("multiferry", "multiferry recording")
local multifd = Proto("multifd", "QEMU multifd channel")

local kinds = { [1] = "main channel", [2] = "return path", [3] = "pages", [4] = "device state",
                [5] = "payload" }
local methods = { [0] = "none", [2] = "zlib", [4] = "zstd", [8] = "qpl", [16] = "uadk", [32] = "qatzip" }
local returns = { [1] = "SHUT", [2] = "PONG", [3] = "REQ_PAGES_ID", [4] = "REQ_PAGES",
                  [5] = "RECV_BITMAP", [6] = "RESUME_ACK", [7] = "SWITCHOVER_ACK" }

local r = {
    magic = ProtoField.uint32("multiferry.magic", "Magic", base.HEX),
    version = ProtoField.uint8("multiferry.version", "Version"),
    kind = ProtoField.uint8("multiferry.kind", "Kind", base.DEC, kinds),
    channel = ProtoField.uint16("multiferry.channel", "Channel"),
    epoch = ProtoField.uint64("multiferry.epoch", "Epoch"),
    position = ProtoField.uint64("multiferry.position", "Position"),
    page_size = ProtoField.uint32("multiferry.page_size", "Page size"),
    payload_len = ProtoField.uint32("multiferry.payload_len", "Payload length"),
    stream = ProtoField.bytes("multiferry.stream", "Stream bytes"),
    return_type = ProtoField.uint16("multiferry.return.type", "Message", base.DEC, returns),
    payload = ProtoField.bytes("multiferry.payload", "Payload"),
}
recording.fields = r

local m = {
    magic = ProtoField.uint32("multifd.magic", "Magic", base.HEX),
    version = ProtoField.uint32("multifd.version", "Version"),
    uuid = ProtoField.guid("multifd.uuid", "UUID of the guest"),
    id = ProtoField.uint8("multifd.id", "Channel id"),
    flags = ProtoField.uint32("multifd.flags", "Flags", base.HEX),
    sync = ProtoField.bool("multifd.flags.sync", "SYNC", 8, nil, 1),
    device = ProtoField.bool("multifd.flags.device_state", "Device state", 8, nil, 0x40),
    method = ProtoField.uint8("multifd.method", "Compression", base.DEC, methods),
    pages_alloc = ProtoField.uint32("multifd.pages_alloc", "Pages allocated"),
    normal = ProtoField.uint32("multifd.normal_pages", "Normal pages"),
    zero = ProtoField.uint32("multifd.zero_pages", "Zero pages"),
    size = ProtoField.uint32("multifd.next_packet_size", "Next packet size"),
    num = ProtoField.uint64("multifd.packet_num", "Packet number"),
    ramblock = ProtoField.string("multifd.ramblock", "RAM block"),
    normal_at = ProtoField.uint64("multifd.normal_offset", "Normal page at", base.HEX),
    zero_at = ProtoField.uint64("multifd.zero_offset", "Zero page at", base.HEX),
    idstr = ProtoField.string("multifd.device.idstr", "Device"),
    instance = ProtoField.uint32("multifd.device.instance", "Instance"),
    device_size = ProtoField.uint32("multifd.device.size", "Payload length"),
    payload = ProtoField.bytes("multifd.payload", "Payload"),
}
multifd.fields = m

local problem = ProtoExpert.new("multifd.problem", "Not a multifd packet",
                                expert.group.MALFORMED, expert.severity.ERROR)
multifd.experts = { problem }

local MAGIC, RECORDING_MAGIC = 0x11223344, 0x4d465243
local INIT_SIZE, DEVICE_SIZE, NAME_AT, OFFSETS_AT = 64, 276, 64, 320
local SYNC, DEVICE_STATE = 1, 0x40

multifd.prefs.page_size = Pref.uint("Page size of captured channels", 4096,
    "Bytes of a page of the target: how long headers are on TCP")

-- Without bit operations, which differ between the versions of Lua.
local function has(flags, bit)
    return math.floor(flags / bit) % 2 == 1
end

local function header_size(page_size)
    return OFFSETS_AT + 8 * math.floor(512 * 1024 / page_size)
end

local function offsets(tvb, tree, field, name, first, n)
    local room = math.floor((tvb:len() - OFFSETS_AT) / 8)
    n = math.max(0, math.min(n, room - first))
    if n == 0 then
        return
    end
    local list = tree:add(multifd, tvb(OFFSETS_AT + 8 * first, 8 * n), n .. " " .. name)
    for i = first, first + n - 1 do
        list:add(field, tvb(OFFSETS_AT + 8 * i, 8))
    end
end

-- A header, and what of its payload there is.  Returns a line about it.
local function dissect_pages(tvb, tree, size)
    local flags, normal, zero = tvb(8, 4):uint(), tvb(16, 4):uint(), tvb(32, 4):uint()
    local item = tree:add(multifd, tvb(0, size), "multifd packet")
    item:add(m.magic, tvb(0, 4))
    item:add(m.version, tvb(4, 4))
    local bits = item:add(m.flags, tvb(8, 4))
    bits:add(m.sync, tvb(11, 1))
    bits:add(m.method, tvb(11, 1), flags % 64 - flags % 2)
    item:add(m.pages_alloc, tvb(12, 4))
    item:add(m.normal, tvb(16, 4))
    item:add(m.size, tvb(20, 4))
    item:add(m.num, tvb(24, 8))
    item:add(m.zero, tvb(32, 4))
    if normal + zero == 0 then
        return has(flags, SYNC) and "SYNC" or "empty"
    end
    item:add(m.ramblock, tvb(NAME_AT, 256), tvb(NAME_AT, 256):stringz())
    offsets(tvb(0, size), item, m.normal_at, "normal pages", 0, normal)
    offsets(tvb(0, size), item, m.zero_at, "zero pages", normal, zero)
    return string.format("%s: %d normal, %d zero pages%s", tvb(NAME_AT, 256):stringz(), normal, zero,
                         has(flags, SYNC) and ", SYNC" or "")
end

local function dissect_device(tvb, tree)
    local item = tree:add(multifd, tvb(0, DEVICE_SIZE), "multifd device state")
    item:add(m.magic, tvb(0, 4))
    item:add(m.version, tvb(4, 4))
    item:add(m.flags, tvb(8, 4)):add(m.device, tvb(11, 1))
    item:add(m.idstr, tvb(12, 256), tvb(12, 256):stringz())
    item:add(m.instance, tvb(268, 4))
    item:add(m.device_size, tvb(272, 4))
    return string.format("device state of %s, %d bytes", tvb(12, 256):stringz(), tvb(272, 4):uint())
end

-- ---- recordings ------------------------------------------------------------

local function dissect_stream(tvb, tree, kind, position)
    if tvb:len() == 0 then
        return kinds[kind]
    end
    local item = tree:add(r.stream, tvb())
    if kind == 2 and tvb:len() >= 4 then
        item:add(r.return_type, tvb(0, 2))
        return "return path: " .. (returns[tvb(0, 2):uint()] or "?")
    end
    return string.format("main channel: %d bytes at %s", tvb:len(), tostring(position))
end

function recording.dissector(tvb, pinfo, tree)
    if tvb:len() < 32 or tvb(0, 4):uint() ~= RECORDING_MAGIC then
        return 0
    end
    local kind, channel, page_size = tvb(5, 1):uint(), tvb(6, 2):uint(), tvb(24, 4):uint()
    local item = tree:add(recording, tvb(0, 32))
    item:add(r.magic, tvb(0, 4))
    item:add(r.version, tvb(4, 1))
    item:add(r.kind, tvb(5, 1))
    if kind > 2 then
        item:add(r.channel, tvb(6, 2))
        item:add(r.epoch, tvb(8, 8))
    end
    item:add(r.position, tvb(16, 8))
    item:add(r.page_size, tvb(24, 4))
    item:add(r.payload_len, tvb(28, 4))
    pinfo.cols.protocol = "multiferry"
    local rest = tvb(32):tvb()
    local info, used
    if kind == 3 and page_size >= 1024 and rest:len() >= header_size(page_size) then
        used = header_size(page_size)
        info = dissect_pages(rest, tree, used)
    elseif kind == 4 and rest:len() >= DEVICE_SIZE then
        used, info = DEVICE_SIZE, dissect_device(rest, tree)
    elseif kind == 5 then
        used, info = 0, rest:len() .. " bytes of its payload"
    elseif kind < 3 then
        used, info = rest:len(), dissect_stream(rest, tree, kind, tvb(16, 8):uint64())
    else
        item:add_proto_expert_info(problem, "The header is not all there")
        return tvb:len()
    end
    if rest:len() > used then
        tree:add(r.payload, rest(used))
    end
    if kind > 2 then
        info = string.format("channel %d epoch %s %s", channel, tostring(tvb(8, 8):uint64()), info)
    end
    pinfo.cols.info = info
    return tvb:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, recording)

-- ---- QEMU's own wire -------------------------------------------------------

-- Behind an init packet's id is nothing but zeroes, and before it the guest's
-- UUID; a packet has its flags there, which take one byte.
local function is_init(tvb, at)
    if tvb:len() - at < INIT_SIZE then
        return false
    end
    for i = 25, INIT_SIZE - 1 do
        if tvb(at + i, 1):uint() ~= 0 then
            return false
        end
    end
    return tvb(at + 8, 3):uint() ~= 0
end

local function dissect_init(tvb, tree)
    local item = tree:add(multifd, tvb(0, INIT_SIZE), "multifd init")
    item:add(m.magic, tvb(0, 4))
    item:add(m.version, tvb(4, 4))
    item:add(m.uuid, tvb(8, 16))
    item:add(m.id, tvb(24, 1))
    return "init of channel " .. tvb(24, 1):uint()
end

-- How long the unit at @at is; 0: it cannot be told yet.
local function get_length(tvb, _, at)
    local left = tvb:len() - at
    if left < 12 then
        return 0
    end
    if is_init(tvb, at) then
        return INIT_SIZE
    end
    if has(tvb(at + 8, 4):uint(), DEVICE_STATE) then
        return left < DEVICE_SIZE and 0 or DEVICE_SIZE + tvb(at + 272, 4):uint()
    end
    if left < 36 then
        return 0
    end
    local payload = tvb(at + 16, 4):uint() > 0 and tvb(at + 20, 4):uint() or 0
    return header_size(multifd.prefs.page_size) + payload
end

local function dissect_unit(tvb, pinfo, tree)
    local info, used
    pinfo.cols.protocol = "multifd"
    if tvb(0, 4):uint() ~= MAGIC then
        tree:add(multifd, tvb()):add_proto_expert_info(problem)
        return tvb:len()
    end
    if is_init(tvb, 0) then
        used, info = INIT_SIZE, dissect_init(tvb, tree)
    elseif has(tvb(8, 4):uint(), DEVICE_STATE) then
        used, info = DEVICE_SIZE, dissect_device(tvb, tree)
    else
        used = header_size(multifd.prefs.page_size)
        info = dissect_pages(tvb, tree, used)
    end
    if tvb:len() > used then
        tree:add(m.payload, tvb(used))
    end
    pinfo.cols.info = info
    return tvb:len()
end

function multifd.dissector(tvb, pinfo, tree)
    dissect_tcp_pdus(tvb, tree, 12, get_length, dissect_unit)
    return tvb:len()
end

local function heuristic(tvb, pinfo, tree)
    if tvb:len() < 8 or tvb(0, 4):uint() ~= MAGIC or tvb(4, 4):uint() ~= 1 then
        return false
    end
    pinfo.conversation = multifd
    multifd.dissector(tvb, pinfo, tree)
    return true
end

multifd:register_heuristic("tcp", heuristic)
DissectorTable.get("tcp.port"):add_for_decode_as(multifd)
